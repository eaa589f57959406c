"""A patch on a small net, and when two are the same."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from robustkit.models import Classifier
from robustkit.repair import Patch, make_patch
from tests.robustkit.repair.nets import (
    chosen,
    same_tensors,
)

SELECTION = chosen(_1=[0, 3, 100, 287], _3=[0, 31])
VALUES = torch.tensor([0.5, -1e-30, 3.0, 0.25, -2.0, 1e30])


def some_patch(model: Classifier, **provenance: Any) -> Patch:
    return make_patch(model, SELECTION, VALUES, **provenance)


def same_patch(first: Patch, second: Patch) -> bool:
    return same_tensors(flat(first), flat(second)) and (
        first.parent,
        first.child,
        first.provenance,
    ) == (second.parent, second.child, second.provenance)


def flat(patch: Patch) -> dict[str, Tensor]:
    return {
        f"{part}/{name}": getattr(change, part)
        for name, change in patch.changes.items()
        for part in ("indices", "old", "new")
    }
