"""The ground floor of the house: what every part stands on, and what a person imports.

`from robustkit import data, models, attacks, training` names the public API. Importing the package
alone is light: a room, and torch with it, is loaded when it is first asked for.

- `data` image sets in memory, `models` networks and their one-file format
- `attacks` adversarial images, `evaluation` accuracy and robustness of any model
- `training` the one training loop
- `repair` mending a trained net, `explain` where it looks
- `compute` devices, seeds and executors, `runs` run folders, ledgers and reports
- `errors` what a person did wrong, in one line; `extensions` modules of a person's own
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
    "models",
    "repair",
    "runs",
    "training",
]


def __getattr__(name: str) -> ModuleType:
    if name not in __all__:
        raise AttributeError(f"module 'robustkit' has no attribute '{name}'")
    return importlib.import_module(f"robustkit.{name}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
