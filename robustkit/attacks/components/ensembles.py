"""How several surrogates are attacked together, beyond the mean of their logits or losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.attacks.ascent import Ascent, Gradient
from robustkit.attacks.components.base import Component, component
from robustkit.attacks.ensemble import Ensemble
from robustkit.attacks.norms import TINY, of_unit_peak, per_image
from robustkit.attacks.ranges import check_at_least_zero, check_count
from robustkit.compute import derive_seed
from robustkit.errors import AttackError

NEEDS = "an ensemble"


@dataclass(frozen=True, kw_only=True)
class _OfMembers(Component):
    """What a component does with the members of an ensemble."""

    needs: ClassVar[str] = NEEDS
    excludes: ClassVar[tuple[str, ...]] = ("svre", "cwa", "adaea")

    def members(self, ascent: Ascent) -> list[nn.Module]:
        """Return the members; raises `AttackError` for a single net."""
        if not isinstance(ascent.model, Ensemble):
            raise AttackError(
                f"{self.name}: it is for an ensemble, and this is one net; `robustkit leaderboard "
                "--ensembles logits` attacks all sources as one"
            )
        return list(ascent.model.members)


def _l1_unit(gradient: Tensor) -> Tensor:
    return gradient / per_image(gradient.flatten(1).abs().sum(dim=1).clamp_min(TINY))


@component("svre")
@dataclass(frozen=True, kw_only=True)
class ReducedVariance(_OfMembers):
    """The momentum of an inner attack on members by turns, less what each differs from all.

    `inner` turns for each member; which comes when is the same for all images.
    """

    paper: ClassVar[str] = "Xiong et al. 2022 (CVPR)"
    inner: int = 4

    def __post_init__(self) -> None:
        check_count("inner", self.inner)

    def gradient(self, of: Gradient, images: Tensor, ascent: Ascent) -> Tensor:
        """Return the inner momentum, as a direction to ascend."""
        members, whole = self.members(ascent), of(images)
        known: dict[int, Tensor] = {}  # of each member at the images: the same in every turn
        velocity, moved = torch.zeros_like(images), images
        for turn in range(self.inner * len(members)):
            member = derive_seed("svre", ascent.step, turn) % len(members)
            if member not in known:
                known[member] = ascent.gradient_of(members[member], images)
            own = ascent.gradient_of(members[member], moved)
            velocity = ascent.decay * velocity + _l1_unit(own - (known[member] - whole))
            step = ascent.alpha * ascent.geometry.steepest(velocity)
            moved = ascent.inside(moved + ascent.sign * step)
        return velocity


@component("cwa")
@dataclass(frozen=True, kw_only=True)
class CommonWeakness(_OfMembers):
    """Where a step back and one up every member in turn lead: flat, and alike for all.

    The step back is `back`·ε; those of members are `reach` times their momentum of unit length.
    """

    paper: ClassVar[str] = "MI-CWA, Chen et al. 2024 (arXiv 2303.09105)"
    back: float = 1 / 15
    reach: float = 250.0

    def __post_init__(self) -> None:
        check_at_least_zero("back", self.back)
        check_at_least_zero("reach", self.reach)

    def gradient(self, of: Gradient, images: Tensor, ascent: Ascent) -> Tensor:
        """Return the way that was gone, as a direction to ascend."""
        members = self.members(ascent)
        back = self.back * ascent.eps * ascent.geometry.steepest(of(images))
        moved = ascent.inside(images - ascent.sign * back)
        velocity = ascent.recall("cwa")
        velocity = torch.zeros_like(images) if velocity is None else velocity
        for member in members:
            own = of_unit_peak(ascent.gradient_of(member, moved))
            size = own.flatten(1).norm(dim=1).clamp_min(TINY)
            velocity = ascent.decay * velocity + own / per_image(size)
            moved = ascent.inside(moved + ascent.sign * self.reach * velocity)
        ascent.keep("cwa", velocity)
        return ascent.sign * (moved - images)


class _Weighted(nn.Module):
    """Logits of members, summed with a weight for every image."""

    def __init__(self, members: list[nn.Module], weights: Tensor) -> None:
        super().__init__()
        self.members, self.weights = nn.ModuleList(members), weights

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n,K)."""
        logits = torch.stack([member(images) for member in self.members])
        return (self.weights[:, :, None] * logits).sum(dim=0)


@component("adaea")
@dataclass(frozen=True, kw_only=True)
class AdaptiveEnsemble(_OfMembers):
    """Members weighted by how well a step on each fools the others; no gradient where they differ.

    Weights are softmaxes of `sharpness` times the losses of the others in their own; pixels at
    which the members' gradients have a mean cosine below `least` are left alone.
    """

    paper: ClassVar[str] = "Chen et al. 2023 (arXiv 2308.02897)"
    elsewhere: ClassVar[bool] = True
    sharpness: float = 10.0
    least: float = -0.3

    def __post_init__(self) -> None:
        check_at_least_zero("sharpness", self.sharpness)
        if not -1 <= self.least <= 1:
            raise AttackError(f"least must be in [-1,1], not {self.least:g}")

    def gradient(self, of: Gradient, images: Tensor, ascent: Ascent) -> Tensor:
        """Return the filtered gradient of the weighted ensemble."""
        members = self.members(ascent)
        gradients = [ascent.gradient_of(member, images) for member in members]
        tried = [
            ascent.inside(images + ascent.sign * ascent.alpha * ascent.geometry.steepest(each))
            for each in gradients
        ]
        with torch.no_grad():
            losses = torch.stack(
                [
                    torch.stack(
                        [
                            F.cross_entropy(member(each), ascent.targets, reduction="none")
                            for member in members
                        ]
                    )
                    for each in tried
                ]
            )  # by whose step, and of whom
        own = losses.diagonal(dim1=0, dim2=1).T.clamp_min(TINY)
        gained = losses / own[None]
        others = gained.sum(dim=1) - gained.diagonal(dim1=0, dim2=1).T
        # Towards a target a small loss is the success.
        weights = (ascent.sign * self.sharpness * others).softmax(dim=0)
        whole = ascent.gradient_of(_Weighted(members, weights), images)
        return whole * (self._alike(gradients) >= self.least)

    def _alike(self, gradients: list[Tensor]) -> Tensor:
        """Return the mean cosine of the members' gradients at every pixel, (n,1,H,W)."""
        scaled = [of_unit_peak(each) for each in gradients]
        pairs = [
            F.cosine_similarity(first, second, dim=1)
            for number, first in enumerate(scaled)
            for second in scaled[number + 1 :]
        ]
        return torch.stack(pairs).mean(dim=0)[:, None]
