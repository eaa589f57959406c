"""Training: one loop, into which the misalignment penalty and adversarial examples plug.

Stands on data, models and attacks; whoever trains anything, from a single net to a whole search,
does it here.
"""

from robustkit.training.config import TrainConfig
from robustkit.training.examples import Examples, make_examples
from robustkit.training.fit import EpochRecord, Evaluation, History, evaluate, fit, fit_examples
from robustkit.training.misalignment import PHI, Misalignment, misalignment
from robustkit.training.references import (
    ReferenceGradients,
    cached_reference,
    compute_reference,
    open_reference,
)

__all__ = [
    "PHI",
    "EpochRecord",
    "Evaluation",
    "Examples",
    "History",
    "Misalignment",
    "ReferenceGradients",
    "TrainConfig",
    "cached_reference",
    "compute_reference",
    "evaluate",
    "fit",
    "fit_examples",
    "make_examples",
    "misalignment",
    "open_reference",
]
