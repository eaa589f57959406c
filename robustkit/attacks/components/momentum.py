"""Where momentum leads: gradients taken ahead of the images, or along what came before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustkit.attacks.ascent import Ascent, Gradient
from robustkit.attacks.components.base import Component, component
from robustkit.attacks.norms import TINY, per_image
from robustkit.attacks.ranges import check_at_least_zero, check_count


def of_unit_mean(gradient: Tensor) -> Tensor:
    """Return every gradient (n,C,H,W) divided by the mean of its absolute entries."""
    size = gradient.flatten(1).abs().mean(dim=1).clamp_min(TINY)
    return gradient / per_image(size)


@component("mi")
@dataclass(frozen=True, kw_only=True)
class Momentum(Component):
    """Momentum for an attack that has none, such as pgd: g = decay·g + ∇/‖∇‖₁."""

    paper: ClassVar[str] = "Dong et al. 2018, equation 6 (arXiv 1710.06081)"
    decay: float = 1.0

    def __post_init__(self) -> None:
        check_at_least_zero("decay", self.decay)


@component("ni")
@dataclass(frozen=True, kw_only=True)
class Nesterov(Component):
    """The gradient where momentum leads."""

    paper: ClassVar[str] = "Lin et al. 2020, equation 6 (arXiv 1908.06281)"
    needs: ClassVar[str] = "momentum"
    elsewhere: ClassVar[bool] = True
    momentum: ClassVar[bool] = True
    excludes: ClassVar[tuple[str, ...]] = ("pi",)

    def ahead(self, images: Tensor, ascent: Ascent) -> Tensor:
        """Return the images moved by what the next step keeps of the velocity."""
        velocity = ascent.recall("velocity")
        if velocity is None:
            return images
        return images + ascent.alpha * ascent.decay * ascent.scale * velocity


@component("pi")
@dataclass(frozen=True, kw_only=True)
class PreGradient(Component):
    """The gradient where the one of the last step leads."""

    paper: ClassVar[str] = "PI-FGSM, Wang et al. 2021 (arXiv 2103.10609)"
    needs: ClassVar[str] = "momentum"
    elsewhere: ClassVar[bool] = True
    momentum: ClassVar[bool] = True

    def ahead(self, images: Tensor, ascent: Ascent) -> Tensor:
        """Return the images moved along the last gradient, of unit mean."""
        last = ascent.recall("pi")
        if last is None:
            return images
        return images + ascent.sign * ascent.alpha * ascent.scale * last

    def gradient(self, of: Gradient, images: Tensor, ascent: Ascent) -> Tensor:
        """Return the gradient, which is kept for the next step."""
        gradient = of(images)
        ascent.keep("pi", of_unit_mean(gradient))
        return gradient


@component("emi")
@dataclass(frozen=True, kw_only=True)
class EnhancedMomentum(Component):
    """The mean gradient at `samples` places along the last one, `reach` steps either way."""

    paper: ClassVar[str] = "EMI-FGSM, Wang et al. 2021 (arXiv 2103.10609)"
    needs: ClassVar[str] = "momentum"
    elsewhere: ClassVar[bool] = True
    momentum: ClassVar[bool] = True
    samples: int = 11
    reach: float = 7.0

    def __post_init__(self) -> None:
        check_count("samples", self.samples)
        check_at_least_zero("reach", self.reach)

    def gradient(self, of: Gradient, images: Tensor, ascent: Ascent) -> Tensor:
        """Return the mean, which is kept for the next step; of the first a single gradient."""
        last = ascent.recall("emi")
        if last is None:
            gradient = of(images)
        else:
            places = torch.linspace(-self.reach, self.reach, self.samples).tolist()
            places = [0.0] if self.samples == 1 else places
            total = torch.zeros_like(images)
            for place in places:
                total += of(images + place * ascent.alpha * ascent.scale * last)
            gradient = total / self.samples
        ascent.keep("emi", of_unit_mean(gradient))
        return gradient
