"""Attacks: pure functions from a model and images to adversarials, and what they say of a model.

Stands on data and models. FGSM, PGD and MI-FGSM are our own; sets crafted on one model are kept
and scored on any other.
"""

from robustkit.attacks import diagnosis
from robustkit.attacks.alignment import GradientAlignment, alignment, input_gradients
from robustkit.attacks.base import Attack, verify, violations
from robustkit.attacks.components import COMPONENTS, Component
from robustkit.attacks.crafting import AdversarialSet, craft
from robustkit.attacks.diagnosis import Finding, diagnose
from robustkit.attacks.ensemble import FUSES, Ensemble
from robustkit.attacks.exchange import (
    ForeignSet,
    export_npz,
    export_png,
    import_npz,
)
from robustkit.attacks.foreign import TorchAttack, library_attacks
from robustkit.attacks.gradients import loss_gradient
from robustkit.attacks.iterative import FGSM, MIFGSM, PGD, Iterative
from robustkit.attacks.levels import to_levels
from robustkit.attacks.losses import LOSSES
from robustkit.attacks.norms import NORMS
from robustkit.attacks.pairs import GradientPairs, gradient_pairs
from robustkit.attacks.predict import predict
from robustkit.attacks.purity import pure
from robustkit.attacks.rates import Gap, Rate, mcnemar, paired_gap, pooled_rate, wilson
from robustkit.attacks.registry import ATTACKS, make
from robustkit.attacks.robustness import Robustness, survivors, worst_case
from robustkit.attacks.store import Store
from robustkit.attacks.transfer import TransferMatrix, transfer_matrix
from robustkit.attacks.variants import DIFGSM, NIFGSM, TIFGSM

__all__ = [
    "ATTACKS",
    "COMPONENTS",
    "DIFGSM",
    "FGSM",
    "FUSES",
    "LOSSES",
    "MIFGSM",
    "NIFGSM",
    "NORMS",
    "PGD",
    "TIFGSM",
    "AdversarialSet",
    "Attack",
    "Component",
    "Ensemble",
    "Finding",
    "ForeignSet",
    "Gap",
    "GradientAlignment",
    "GradientPairs",
    "Iterative",
    "Rate",
    "Robustness",
    "Store",
    "TorchAttack",
    "TransferMatrix",
    "alignment",
    "craft",
    "diagnose",
    "diagnosis",
    "export_npz",
    "export_png",
    "gradient_pairs",
    "import_npz",
    "input_gradients",
    "library_attacks",
    "loss_gradient",
    "make",
    "mcnemar",
    "paired_gap",
    "pooled_rate",
    "predict",
    "pure",
    "survivors",
    "to_levels",
    "transfer_matrix",
    "verify",
    "violations",
    "wilson",
    "worst_case",
]
