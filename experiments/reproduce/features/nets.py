"""The nets of the study: who they are, and how each is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from robustkit.models.blueprint import Blueprint

# What the search of `experiments/results/misalignment-cifar10` chose, by the key in its summary.
EVOLVED_KEY = "d6d61a5370f29c03"
EVOLVED: dict[str, Any] = {
    "blocks": [
        {"kind": "dense", "channels": 24, "kernel": 3, "stride": 2, "norm": "none",
         "activation": "gelu", "pool": "avg", "inputs": [0], "merge": "add"},
        {"kind": "dense", "channels": 32, "kernel": 3, "stride": 1, "norm": "batch",
         "activation": "leaky_relu", "pool": "avg", "inputs": [1], "merge": "add"},
        {"kind": "pool", "channels": 16, "kernel": 5, "stride": 2, "norm": "batch",
         "activation": "relu", "pool": "max", "inputs": [2], "merge": "add"},
        {"kind": "dense", "channels": 32, "kernel": 5, "stride": 2, "norm": "batch",
         "activation": "gelu", "pool": "avg", "inputs": [3], "merge": "add"},
    ],
    "head": {"pool": "flatten", "hidden": 128, "activation": "elu"},
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Role:
    """A net of the study: R's architecture or the evolved one, where it starts, its training.

    Nets of one `start` and architecture begin with the same weights and see the same batches.
    `eps` is the radius in 1/255 of PGD adversarials trained on, 0 for the images as they are;
    `against` adds the misalignment penalty against R.
    """

    says: str
    evolved: bool = False
    start: int = 0
    eps: int = 0
    against: bool = False


ROLES = {
    "R": Role(says="plain"),
    "R2": Role(says="plain, another start", start=1),
    "A2": Role(says="adversarial, eps 2/255", start=2, eps=2),
    "A8": Role(says="adversarial, eps 8/255", start=3, eps=8),
    "Rp": Role(says="from R2's start, against R", start=1, against=True),
    "E": Role(says="evolved, against R", evolved=True, against=True),
    "E0": Role(says="evolved, plain", evolved=True),
}


def evolved() -> Blueprint:
    """The evolved architecture."""
    return Blueprint.from_dict(EVOLVED)
