"""Gradients of a neighbourhood instead of a point: their variance, and flat maxima."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from robustkit.attacks.ascent import Ascent, Gradient
from robustkit.attacks.components.base import Component, component
from robustkit.attacks.components.momentum import Nesterov, of_unit_mean
from robustkit.attacks.norms import of_unit_peak, per_image
from robustkit.attacks.ranges import check_at_least_zero, check_count, check_share
from robustkit.errors import AttackError


@component("vmi")
@dataclass(frozen=True, kw_only=True)
class VarianceTuning(Component):
    """The gradient plus the variance of the last step: of its neighbours' mean from it.

    `samples` neighbours are uniform within `radius`·ε.
    """

    paper: ClassVar[str] = "VMI-FGSM, Wang and He 2021 (arXiv 2103.15571)"
    samples: int = 20
    radius: float = 1.5

    def __post_init__(self) -> None:
        check_count("samples", self.samples)
        check_at_least_zero("radius", self.radius)

    def gradient(self, of: Gradient, images: Tensor, ascent: Ascent) -> Tensor:
        """Return the gradient plus the kept variance; keep that of this step."""
        variance = ascent.recall("vmi")
        gradient, middle = of(images), self.middle(images, ascent)
        around = torch.zeros_like(images)
        for number in range(self.samples):
            noise = ascent.noise("vmi", self.radius * ascent.eps, number)
            around += of(middle + noise)
        ascent.keep("vmi", around / self.samples - gradient)
        return gradient if variance is None else gradient + variance

    def middle(self, images: Tensor, ascent: Ascent) -> Tensor:
        """Return whose neighbours are looked at."""
        return images


@component("vni")
@dataclass(frozen=True, kw_only=True)
class VarianceTuningAhead(VarianceTuning):
    """The gradient where momentum leads, plus the variance around the adversarials themselves."""

    paper: ClassVar[str] = "VNI-FGSM, Wang and He 2021 (arXiv 2103.15571)"
    needs: ClassVar[str] = "momentum"
    elsewhere: ClassVar[bool] = True
    momentum: ClassVar[bool] = True
    excludes: ClassVar[tuple[str, ...]] = ("vmi", "ni", "pi")

    def ahead(self, images: Tensor, ascent: Ascent) -> Tensor:
        """Return the images moved by what the next step keeps of the velocity."""
        return Nesterov().ahead(images, ascent)

    def middle(self, images: Tensor, ascent: Ascent) -> Tensor:
        """Return the adversarials as they stand."""
        return images if ascent.here is None else ascent.here


@component("pgn")
@dataclass(frozen=True, kw_only=True)
class PenalisedGradientNorm(Component):
    """The mean over neighbours of (1-δ)·g + δ·g′, g′ being taken a step against g.

    `samples` neighbours are uniform within `radius`·ε; δ is `balance`.
    """

    paper: ClassVar[str] = "Ge et al. 2023 (arXiv 2306.05225)"
    elsewhere: ClassVar[bool] = True
    samples: int = 20
    radius: float = 3.0
    balance: float = 0.5

    def __post_init__(self) -> None:
        check_count("samples", self.samples)
        check_at_least_zero("radius", self.radius)
        check_share("balance", self.balance)

    def gradient(self, of: Gradient, images: Tensor, ascent: Ascent) -> Tensor:
        """Return the mean of both gradients over the neighbours."""
        total = torch.zeros_like(images)
        for number in range(self.samples):
            near = images + ascent.noise("pgn", self.radius * ascent.eps, number)
            first = of(near)
            # Against the ascended direction, be that of a loss or, targeted, of its negative.
            sign = ascent.sign
            second = of(near - sign * ascent.alpha * ascent.scale * of_unit_mean(first))
            total += (1 - self.balance) * first + self.balance * second
        return total / self.samples


@component("gra")
@dataclass(frozen=True, kw_only=True)
class GradientRelevance(Component):
    """The gradient and its neighbours' mean, weighted by how well they agree.

    s·g + (1-s)·ḡ with their cosine s; `samples` neighbours are uniform within `radius`·ε. A pixel's
    step shrinks by `shrink` whenever its direction changes.
    """

    paper: ClassVar[str] = "Zhu et al. 2023 (ICCV)"
    samples: int = 20
    radius: float = 3.5
    shrink: float = 0.94

    def __post_init__(self) -> None:
        check_count("samples", self.samples)
        check_at_least_zero("radius", self.radius)
        if not 0 < self.shrink <= 1:
            raise AttackError(f"shrink must be in (0,1], not {self.shrink:g}")

    def gradient(self, of: Gradient, images: Tensor, ascent: Ascent) -> Tensor:
        """Return the weighted mean."""
        gradient = of(images)
        around = torch.zeros_like(images)
        for number in range(self.samples):
            around += of(images + ascent.noise("gra", self.radius * ascent.eps, number))
        around /= self.samples
        # By their largest entries first: a confident net's gradients underflow when squared.
        first, second = (of_unit_peak(each).flatten(1) for each in (gradient, around))
        agree = per_image(F.cosine_similarity(first, second))
        return agree * gradient + (1 - agree) * around

    def stride(self, step: Tensor, ascent: Ascent) -> Tensor:
        """Return the step, smaller where its sign has changed."""
        factor, last = ascent.recall("gra factor"), ascent.recall("gra sign")
        # The first step is no change.
        factor = torch.full_like(step, 1 / self.shrink) if factor is None else factor
        changed = True if last is None else step.sign() != last
        factor = torch.where(torch.as_tensor(changed), factor * self.shrink, factor)
        ascent.keep("gra factor", factor)
        ascent.keep("gra sign", step.sign())
        return factor * step


@component("rap")
@dataclass(frozen=True, kw_only=True)
class ReversePerturbation(Component):
    """The gradient where a perturbation of the attacked image hurts the attack most.

    It is found in `inner` steps of `inner_step`·ε against the attack, within `radius`·ε, from a
    random start, and sought after the share `late` of the attack's steps.
    """

    paper: ClassVar[str] = "Qin et al. 2022 (arXiv 2210.05968)"
    elsewhere: ClassVar[bool] = True
    inner: int = 8
    inner_step: float = 0.125
    radius: float = 1.0
    late: float = 0.25

    def __post_init__(self) -> None:
        check_count("inner", self.inner)
        check_at_least_zero("inner_step", self.inner_step)
        check_at_least_zero("radius", self.radius)
        check_share("late", self.late)

    def gradient(self, of: Gradient, images: Tensor, ascent: Ascent) -> Tensor:
        """Return the gradient at the images with the reverse perturbation."""
        if ascent.step < self.late * ascent.steps:
            return of(images)
        most, step, geometry = (
            self.radius * ascent.eps,
            self.inner_step * ascent.eps,
            ascent.geometry,
        )
        start = images + ascent.noise("rap", most)
        reverse = start.clamp(0, 1) - images
        for _ in range(self.inner):
            away = ascent.sign * geometry.steepest(of(images + reverse))
            reverse = geometry.project(reverse - step * away, most)
            reverse = (images + reverse).clamp(0, 1) - images
        return of(images + reverse)
