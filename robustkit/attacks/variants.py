"""MI-FGSM made to transfer better: Nesterov's momentum, diverse inputs, translation invariance."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.attacks.diversity import DRAWS, resized_and_padded
from robustkit.attacks.gradients import View
from robustkit.attacks.iterative import MIFGSM
from robustkit.errors import AttackError

LARGEST_KERNEL = 99


@dataclass(frozen=True, kw_only=True)
class _Elsewhere(MIFGSM):
    """Momentum ascent whose gradients are not taken at the images themselves."""

    def _seen(self, model: nn.Module, images: Tensor, logits: Tensor) -> Tensor:
        with torch.no_grad():
            seen: Tensor = model(images)
        return seen


@dataclass(frozen=True, kw_only=True)
class NIFGSM(_Elsewhere):
    """Nesterov iterative FGSM: the gradient where momentum leads (Lin et al. 2020, equation 6)."""

    def _ahead(self, images: Tensor, velocity: Tensor | None) -> Tensor:
        _, alpha, _, decay = self._schedule()
        return images if velocity is None else images + alpha * decay * velocity


@dataclass(frozen=True, kw_only=True)
class DIFGSM(_Elsewhere):
    """Diverse inputs: the gradient through a random resize and pad of each step (Xie et al. 2019).

    With `diversity` probability an image is shrunk to a side of `resize` to 1 of its own. `decay`
    0 is the paper's DI²-FGSM, above it M-DI²-FGSM.
    """

    diversity: float = 0.5
    resize: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.diversity <= 1:
            raise AttackError(f"{self.name}: diversity must be in [0,1], not {self.diversity:g}")
        if not 0 < self.resize <= 1:
            raise AttackError(f"{self.name}: resize must be in (0,1], not {self.resize:g}")

    def _draw(self, count: int, generator: torch.Generator) -> Tensor | None:
        return torch.rand(count, self.steps, DRAWS, generator=generator, dtype=torch.float64)

    def _view(self, drawn: Tensor | None) -> View | None:
        if drawn is None or self.diversity == 0:
            return None
        return lambda images: resized_and_padded(images, drawn, self.resize, self.diversity)


@dataclass(frozen=True, kw_only=True)
class TIFGSM(DIFGSM):
    """Translation invariance: gradients smoothed by a Gaussian kernel (Dong et al. 2019, eq. 7).

    `kernel` is its side in pixels, odd: 15 in the paper, on images of 299; it reaches to three
    standard deviations, as there. `diversity` 0 is TI-MI-FGSM, above it TI-DIM.
    """

    diversity: float = 0.0
    kernel: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.kernel <= LARGEST_KERNEL or self.kernel % 2 == 0:
            raise AttackError(
                f"{self.name}: kernel must be odd and in [1, {LARGEST_KERNEL}], not {self.kernel}"
            )

    def _smooth(self, gradient: Tensor) -> Tensor:
        channels = gradient.shape[1]
        line = gaussian(self.kernel).to(gradient)
        weight = torch.outer(line, line).expand(channels, 1, -1, -1)
        return F.conv2d(gradient, weight, padding="same", groups=channels)


def gaussian(side: int) -> Tensor:
    """A Gaussian at `side` points from -3 to 3 deviations, summing to one: float64 (side,)."""
    points = torch.linspace(-3.0, 3.0, side, dtype=torch.float64) if side > 1 else torch.zeros(1)
    line = (-points.square() / 2).exp()
    return line / line.sum()
