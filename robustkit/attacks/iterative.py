"""FGSM, PGD and MI-FGSM: one loop of projected steepest ascent with three settings."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustkit.attacks.base import Attack
from robustkit.attacks.gradients import View, loss_gradient
from robustkit.attacks.losses import LOSSES
from robustkit.attacks.norms import TINY, per_image
from robustkit.errors import AttackError

# Beyond these an attack runs out of memory or of numbers, and would seem to fail.
MOST_STEPS = 100_000
MOST_DECAY = 10


@dataclass(frozen=True, kw_only=True)
class Iterative(Attack):
    """The loop that all share: `_schedule` tells them apart, and what of the hooks they replace.

    `loss` is what is ascended; `bf16` computes the gradients, and nothing else, in bfloat16.
    """

    loss: str = "ce"
    bf16: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        LOSSES.find(self.loss)
        steps, alpha, _, decay = self._schedule()
        if not 1 <= steps <= MOST_STEPS:
            raise AttackError(f"{self.name}: steps must be in [1, {MOST_STEPS}], not {steps}")
        if not 0 <= alpha < float("inf"):
            raise AttackError(f"{self.name}: alpha must not be negative, not {alpha:g}")
        if not 0 <= decay <= MOST_DECAY:
            raise AttackError(f"{self.name}: decay must be in [0, {MOST_DECAY}], not {decay:g}")

    def _schedule(self) -> tuple[int, float, bool, float]:
        """Steps, step size, whether to start at random, and the momentum's decay."""
        raise NotImplementedError

    def _draw(self, count: int, generator: torch.Generator) -> Tensor | None:
        """The random numbers of all steps (count, steps, …), or None where views need none."""
        return None

    def _view(self, drawn: Tensor | None) -> View | None:
        """What the model is shown in one step, from its rows (n, …) of what was drawn."""
        return None

    def _ahead(self, images: Tensor, velocity: Tensor | None) -> Tensor:
        """Where the gradient is taken: (n,C,H,W) from the images and their velocity."""
        return images

    def _smooth(self, gradient: Tensor) -> Tensor:
        """What is done to the gradient (n,C,H,W) before it is accumulated."""
        return gradient

    def perturb(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        generator: torch.Generator,
        stop_when_fooled: bool,
    ) -> Tensor:
        """Projected ascent from a (random) start; see `Attack.__call__` for shapes and units."""
        steps, alpha, random_start, decay = self._schedule()
        adversarials = images.clone()
        if random_start:
            noise = self.geometry.random(tuple(images.shape), self.eps, generator)
            adversarials = self._inside(images, adversarials + noise.to(images))
        drawn = self._draw(len(images), generator)
        velocity = torch.zeros_like(images) if decay else None
        live = torch.arange(len(images), device=images.device)
        for step in range(steps):
            at = self._ahead(adversarials[live], None if velocity is None else velocity[live])
            view = self._view(None if drawn is None else drawn[live.cpu(), step].to(images))
            gradient, logits = loss_gradient(
                model, at, labels[live], self.loss, view=view, bf16=self.bf16
            )
            if stop_when_fooled:
                seen = self._seen(model, adversarials[live], logits)
                unfooled = (seen.argmax(dim=1) == labels[live]) != self.targeted
                live, gradient = live[unfooled], gradient[unfooled]
                if not len(live):
                    break
            gradient = self._smooth(gradient)
            direction = -gradient if self.targeted else gradient
            if velocity is not None:
                direction = _accumulate(velocity, live, direction, decay)
            moved = adversarials[live] + alpha * self.geometry.steepest(direction)
            adversarials[live] = self._inside(images[live], moved)
        return adversarials

    def _seen(self, model: nn.Module, images: Tensor, logits: Tensor) -> Tensor:
        """What the model says of the images themselves, where `logits` may be of something else."""
        return logits

    def _inside(self, images: Tensor, moved: Tensor) -> Tensor:
        """The ball first, then the range: clipping to [0,1] never leaves the ball."""
        return (images + self.geometry.project(moved - images, self.eps)).clamp_(0.0, 1.0)


def _accumulate(velocity: Tensor, live: Tensor, gradient: Tensor, decay: float) -> Tensor:
    """g_t = μ g_{t-1} + ∇/‖∇‖₁ (Dong et al. 2018, equation 6), written into `velocity`."""
    size = gradient.flatten(1).abs().sum(dim=1).clamp_min(TINY)
    velocity[live] = decay * velocity[live] + gradient / per_image(size)
    return velocity[live]


@dataclass(frozen=True, kw_only=True)
class FGSM(Iterative):
    """Fast gradient sign method: one step of size ε (Goodfellow et al. 2015)."""

    def _schedule(self) -> tuple[int, float, bool, float]:
        return 1, self.eps, False, 0.0


@dataclass(frozen=True, kw_only=True)
class PGD(Iterative):
    """Projected gradient descent (Madry et al. 2018).

    `alpha` is the step size in units of images in [0,1]; None takes 2.5·ε/steps, with which the
    boundary can be reached from any start.
    """

    steps: int = 10
    alpha: float | None = None
    random_start: bool = True

    def _schedule(self) -> tuple[int, float, bool, float]:
        alpha = 2.5 * self.eps / max(self.steps, 1) if self.alpha is None else self.alpha
        return self.steps, alpha, self.random_start, 0.0


@dataclass(frozen=True, kw_only=True)
class MIFGSM(Iterative):
    """Momentum iterative FGSM (Dong et al. 2018); `alpha` None takes ε/steps, `decay` is μ."""

    steps: int = 10
    alpha: float | None = None
    decay: float = 1.0

    def _schedule(self) -> tuple[int, float, bool, float]:
        alpha = self.eps / max(self.steps, 1) if self.alpha is None else self.alpha
        return self.steps, alpha, False, self.decay
