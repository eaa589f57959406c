"""Features that do not tell the domains apart: classifiers behind a gradient reversal.

Local and global alignment after Saito, Ushiku, Harada and Saenko 2019 (strong-weak alignment):
local classifiers look at single places of the maps of every level with least squares, the global
one at whole images of the coarsest with a focal loss, which leaves images alone that are plainly of
one domain. They learn at full speed; weights are of what reaches the features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GAMMA = 3.0  # of the focal loss
SOURCE, TARGET = 0.0, 1.0


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return maps.view_as(maps)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        return -ctx.factor * slope, None


def reversed_gradient(maps: Tensor, factor: float = 1.0) -> Tensor:
    """Return `maps`; gradients through them are taken times minus `factor`.

    Ganin and Lempitsky 2015.
    """
    reversed_maps: Tensor = _Reverse.apply(maps, factor)
    return reversed_maps


def grown(steepness: float, progress: float) -> float:
    """Return how much of the reversed gradient counts after a share `progress` of the training.

    From 0 towards 1 as 2 / (1 + exp(-steepness progress)) - 1 (Ganin et al. 2016, section 5.2.2);
    with a `steepness` of 0 all of it, from the start.

    >>> [round(grown(10.0, progress), 2) for progress in (0.0, 0.1, 0.5)]
    [0.0, 0.46, 0.99]
    """
    return math.tanh(steepness * progress / 2) if steepness else 1.0


@dataclass(frozen=True, eq=False)
class Told:
    """How well domains are told apart: losses with a graph, and shares that are told right."""

    local: Tensor
    whole: Tensor
    local_right: Tensor
    whole_right: Tensor


class DomainClassifiers(nn.Module):
    """A local classifier for the maps of each level, and a global one for the coarsest."""

    def __init__(self, channels: Sequence[int], width: int = 64) -> None:
        super().__init__()
        self.local = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(count, width, 1), nn.ReLU(), nn.Conv2d(width, width, 1), nn.ReLU(),
                nn.Conv2d(width, 1, 1),
            )
            for count in channels
        )  # fmt: skip
        self.whole = nn.Sequential(
            nn.Conv2d(channels[-1], width, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), nn.Linear(width, 1),
        )  # fmt: skip

    def told(
        self, maps: Mapping[str, Tensor], domain: float, factors: tuple[float, float] = (1.0, 1.0)
    ) -> Told:
        """Return the local loss, the mean over levels, and the global one of one domain's maps.

        Their gradients train the classifiers to tell the domains apart and, times the local and the
        global one of `factors`, make the features alike.
        """
        levels = list(maps.values())
        local, right = [], []
        for classifier, level in zip(self.local, levels, strict=True):
            places = classifier(reversed_gradient(level, factors[0])).sigmoid()
            local.append((places - domain).square().mean())
            right.append(((places > 0.5) == bool(domain)).float().mean())
        logit = self.whole(reversed_gradient(levels[-1], factors[1]))[:, 0]
        aim = torch.full_like(logit, domain)
        cross = F.binary_cross_entropy_with_logits(logit, aim, reduction="none")
        return Told(
            local=torch.stack(local).mean(),
            whole=((1 - torch.exp(-cross)) ** GAMMA * cross).mean(),
            local_right=torch.stack(right).mean(),
            whole_right=((logit > 0) == bool(domain)).float().mean(),
        )
