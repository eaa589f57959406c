"""Attacks on a detector's loss, within an L∞ ball around images in [0,1]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adaptation.detectors import DetectionLoss, Detector
from robustkit.compute import isolated_rng
from robustkit.data.detection import Truth
from robustkit.errors import AttackError, did_you_mean
from robustkit.models.state import state_preserved

LOSSES = ("cls", "loc", "all", "mtd")


@dataclass(frozen=True, kw_only=True)
class DetectionAttack:
    """Projected gradient ascent (Madry et al. 2018) on a detector's loss, or on one half of it.

    `loss`: "cls" what things are, "loc" where they are, "all" both; "mtd" attacks either and keeps,
    image by image, the one of larger total loss (Zhang and Wang 2019). `eps` and `alpha` are in
    units of images in [0,1]; without `alpha` a step is 1.25 eps where there is one, else
    2.5 eps / steps. `random_start` begins anywhere in the ball.

    A two-stage detector averages "loc" over the proposals that it samples; moving proposals away
    makes that mean no larger, so attack "cls" or "all" there.
    """

    loss: str = "all"
    eps: float = 2 / 255
    alpha: float | None = None
    steps: int = 1
    random_start: bool = True

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise AttackError(f"unknown loss '{self.loss}'{did_you_mean(self.loss, LOSSES)}")
        if not 0 <= self.eps <= 1:
            raise AttackError(f"eps must be in [0,1], in units of images, not {self.eps:g}")
        if self.alpha is not None and not 0 < self.alpha <= 1:
            raise AttackError(f"alpha must be in (0,1], in units of images, not {self.alpha:g}")
        if self.steps < 1:
            raise AttackError(f"steps must be at least 1, not {self.steps}")

    @property
    def step(self) -> float:
        """Return the size of each step."""
        if self.alpha is not None:
            return self.alpha
        return 1.25 * self.eps if self.steps == 1 else 2.5 * self.eps / self.steps

    def __call__(
        self,
        model: Detector,
        images: Sequence[Tensor],
        truths: Sequence[Truth],
        *,
        generator: torch.Generator,
    ) -> list[Tensor]:
        """Return adversarials of `images`, each float (3,H,W) of any size, in [0,1] and in the
        ball.

        The model is left as it was found, batch norm's statistics and random states too; norms and
        dropout are in evaluation mode meanwhile. What a detector samples (proposals) is the same in
        every step and call of equal `generator`.
        """
        seed = int(torch.randint(2**62, (), generator=generator))
        starts = [self._start(image, generator) for image in images]
        with state_preserved(model):
            if self.loss != "mtd":
                return self._ascend(model, images, starts, truths, self.loss, seed)
            pair = [
                self._ascend(model, images, starts, truths, part, seed) for part in ("cls", "loc")
            ]
            return _worse(model, pair[0], pair[1], truths, seed)

    def _start(self, image: Tensor, generator: torch.Generator) -> Tensor:
        if not self.random_start:
            return image.detach().clone()
        noise = 2 * torch.rand(image.shape, generator=generator) - 1
        return (image.detach() + self.eps * noise.to(image)).clamp(0, 1)

    def _ascend(
        self,
        model: Detector,
        images: Sequence[Tensor],
        starts: Sequence[Tensor],
        truths: Sequence[Truth],
        part: str,
        seed: int,
    ) -> list[Tensor]:
        now = list(starts)
        for _ in range(self.steps):
            leaves = [image.detach().requires_grad_(True) for image in now]
            with torch.enable_grad(), isolated_rng(seed):
                loss = _half(model.losses(leaves, truths), part)
                slopes = torch.autograd.grad(loss, leaves, allow_unused=True)
            now = [
                self.project(current + self.step * slope.sign(), image)
                if slope is not None
                else current
                for current, slope, image in zip(now, slopes, images, strict=True)
            ]
        return [image.detach() for image in now]

    def project(self, moved: Tensor, image: Tensor) -> Tensor:
        """Return `moved`, projected into the ball around `image` and into [0,1]."""
        return moved.clamp(image - self.eps, image + self.eps).clamp(0, 1)


def _half(loss: DetectionLoss, part: str) -> Tensor:
    return {
        "cls": loss.classification,
        "loc": loss.localisation,
        "all": loss.total,
    }[part]


def _worse(
    model: Detector,
    first: Sequence[Tensor],
    second: Sequence[Tensor],
    truths: Sequence[Truth],
    seed: int,
) -> list[Tensor]:
    """Return, image by image, the one of two adversarials with the larger total loss."""
    chosen = []
    for a, b, truth in zip(first, second, truths, strict=True):
        with torch.no_grad():
            sizes = []
            for loss in (a, b):
                with isolated_rng(seed):
                    sizes.append(float(model.losses([loss], [truth]).total))
        chosen.append(b if sizes[1] > sizes[0] else a)
    return chosen
