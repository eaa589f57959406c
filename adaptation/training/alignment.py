"""Features that do not tell the domains apart: classifiers behind a gradient reversal.

Local and global alignment after Saito, Ushiku, Harada and Saenko 2019 (strong-weak alignment):
the local classifier looks at single places of the finest maps with least squares, the global one at
whole images of the coarsest with a focal loss, which leaves images alone that are plainly of one
domain.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GAMMA = 3.0  # of the focal loss
SOURCE, TARGET = 0.0, 1.0


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor) -> Tensor:
        return maps.view_as(maps)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        return -slope


def reversed_gradient(maps: Tensor) -> Tensor:
    """The same values; gradients come back with the other sign (Ganin and Lempitsky 2015)."""
    reversed_maps: Tensor = _Reverse.apply(maps)
    return reversed_maps


class DomainClassifiers(nn.Module):
    """A local and a global classifier for maps with so many channels."""

    def __init__(self, finest: int, coarsest: int, width: int = 64) -> None:
        super().__init__()
        self.local = nn.Sequential(
            nn.Conv2d(finest, width, 1), nn.ReLU(), nn.Conv2d(width, width, 1), nn.ReLU(),
            nn.Conv2d(width, 1, 1),
        )  # fmt: skip
        self.whole = nn.Sequential(
            nn.Conv2d(coarsest, width, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), nn.Linear(width, 1),
        )  # fmt: skip

    def losses(self, maps: Mapping[str, Tensor], domain: float) -> tuple[Tensor, Tensor]:
        """Local and global loss of one domain's maps; their gradients pull the features together
        and the classifiers apart."""
        finest, coarsest = ends(maps)
        places = self.local(reversed_gradient(finest)).sigmoid()
        local = (places - domain).square().mean()
        logit = self.whole(reversed_gradient(coarsest))[:, 0]
        aim = torch.full_like(logit, domain)
        cross = F.binary_cross_entropy_with_logits(logit, aim, reduction="none")
        return local, ((1 - torch.exp(-cross)) ** GAMMA * cross).mean()


def ends(maps: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The finest and the coarsest maps of a backbone."""
    ordered = list(maps.values())
    return ordered[0], ordered[-1]
