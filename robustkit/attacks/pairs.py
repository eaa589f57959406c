"""How the input gradients of several nets lie to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robustkit.attacks.alignment import LEAST, input_gradients
from robustkit.attacks.answers import source_digest
from robustkit.attacks.store import Store
from robustkit.data import ImageSet, batches

BATCH = 250


@dataclass(frozen=True, eq=False)
class GradientPairs:
    """For M nets in the order of `names` and N images, float64: `cosine` (M,M,N), `norm` (M,N).

    A cosine is NaN where either gradient is exactly zero. The norm is the L2 norm of ∂L/∂x.
    """

    names: tuple[str, ...]
    cosine: Tensor
    norm: Tensor

    def between(self, first: str, second: str) -> dict[str, Any]:
        """Mean, mean magnitude and quartiles of the cosine; None where no image has one."""
        row, column = self.names.index(first), self.names.index(second)
        cosine = self.cosine[row, column]
        known = cosine[~cosine.isnan()]
        if not len(known):
            return {"cos_mean": None, "cos_abs_mean": None, "cos_quartiles": None}
        quartiles = torch.quantile(known, torch.tensor([0.25, 0.5, 0.75], dtype=known.dtype))
        return {
            "cos_mean": float(known.mean()),
            "cos_abs_mean": float(known.abs().mean()),
            "cos_quartiles": quartiles.tolist(),
        }

    def of(self, name: str) -> dict[str, Any]:
        """Mean and quartiles of a net's gradient norms, and the share that is exactly zero."""
        norm = self.norm[self.names.index(name)]
        quartiles = torch.quantile(norm, torch.tensor([0.25, 0.5, 0.75], dtype=norm.dtype))
        return {
            "grad_norm_mean": float(norm.mean()),
            "grad_norm_quartiles": quartiles.tolist(),
            "grad_zero": float((norm == 0).double().mean()),
        }


def gradient_pairs(
    nets: Mapping[str, nn.Module], images: ImageSet, *, loss: str = "ce", store: Store | None = None
) -> GradientPairs:
    """Cosines between the input gradients of every two nets on every image, batch by batch."""
    origin = {
        "nets": [source_digest(net) for net in nets.values()],
        "data": images.digest(),
        "loss": loss,
    }
    kept = (store or Store(None)).fetch("gradients", origin, lambda: _compare(nets, images, loss))
    return GradientPairs(tuple(nets), kept["cosine"], kept["norm"])


def _compare(nets: Mapping[str, nn.Module], images: ImageSet, loss: str) -> dict[str, Tensor]:
    count = len(nets)
    cosine = torch.full((count, count, len(images)), torch.nan, dtype=torch.float64)
    norm = torch.empty(count, len(images), dtype=torch.float64)
    for part in batches(len(images), BATCH):
        some = images.subset(part)
        rows = torch.stack(
            [input_gradients(net, some, loss).flatten(1).double() for net in nets.values()]
        )
        norm[:, part] = rows.norm(dim=2)
        unit = rows / norm[:, part, None].clamp_min(LEAST)
        cosine[:, :, part] = torch.einsum("and,bnd->abn", unit, unit)
    # A gradient without a direction has no cosine with anything.
    cosine[(norm == 0)[:, None].expand_as(cosine)] = torch.nan
    cosine[(norm == 0)[None].expand_as(cosine)] = torch.nan
    return {"cosine": cosine, "norm": norm}
