"""Several networks attacked as one source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from robustkit.errors import AttackError

Fuse = Literal["logits", "loss"]
FUSES: tuple[str, ...] = get_args(Fuse)


class Ensemble(nn.Module):
    """The mean of several networks over the same classes (Liu et al. 2017, section 5; Dong 2018).

    `fuse` says what an attack ascends: the loss of the "logits"' mean, or the mean of the
    members' own "loss", in which no member drowns the others by larger logits. Predictions are
    those of the mean logits either way. Raises `AttackError` for fewer than two members or another
    `fuse`.
    """

    def __init__(self, members: Sequence[nn.Module], fuse: str = "logits") -> None:
        super().__init__()
        if len(members) < 2:
            raise AttackError(f"an ensemble has at least two members, not {len(members)}")
        if fuse not in FUSES:
            raise AttackError(f"ensemble: fuse must be {' or '.join(FUSES)}, not '{fuse}'")
        self.members = nn.ModuleList(members)
        self.fuse = fuse

    def forward(self, images: Tensor) -> Tensor:
        """Mean logits (N,K) of images (N,C,H,W)."""
        return torch.stack([member(images) for member in self.members]).mean(dim=0)


def heads_of(model: nn.Module, images: Tensor) -> list[Tensor]:
    """Return the logits (N,K) whose losses an attack on `model` averages; one tensor as a rule."""
    if isinstance(model, Ensemble) and model.fuse == "loss":
        return [member(images) for member in model.members]
    return [model(images)]
