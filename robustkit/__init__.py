"""A robustness laboratory in which one model travels: attack, explain, repair, adapt, evolve it.

`from robustkit import data, models, attacks, training` names the public API. Importing the package
alone is light: a package of it, and torch with it, is loaded when it is first asked for.

- `data` image sets and detection sets, `models` anyone's networks and their one-file format
- `attacks` adversarial images, `evaluation` accuracy, robustness and transfer of any model
- `training` the one training loop
- `repair` patches for a trained network, `explain` maps of its decisions
- `stats` every interval and test, `jobs` many computations with typed outcomes
- `compute` devices, seeds and batches, `runs` run folders and ledgers
- `errors` mistakes of the user, in one line; `extensions` modules of the user's own
"""

from __future__ import annotations

import importlib
from types import ModuleType

__version__ = "0.1.0"

__all__ = [
    "attacks",
    "compute",
    "data",
    "errors",
    "evaluation",
    "explain",
    "extensions",
    "jobs",
    "models",
    "repair",
    "runs",
    "stats",
    "training",
]


def __getattr__(name: str) -> ModuleType:
    if name not in __all__:
        raise AttributeError(f"module 'robustkit' has no attribute '{name}'")
    return importlib.import_module(f"robustkit.{name}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
