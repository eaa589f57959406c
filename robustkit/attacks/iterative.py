"""FGSM, PGD and MI-FGSM: one loop of projected steepest ascent, into which components plug."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor, nn

from robustkit.attacks.base import Attack
from robustkit.attacks.components import Combination, ComponentSettings, combine
from robustkit.attacks.gradients import LOSSES, loss_gradient
from robustkit.attacks.norms import TINY, per_image
from robustkit.errors import AttackError
from robustkit.reading import Json

# Beyond these an attack runs out of memory or of numbers, and would seem to fail.
MOST_STEPS = 100_000
MOST_DECAY = 10


@dataclass(frozen=True, kw_only=True)
class Iterative(ComponentSettings, Attack):
    """The loop that all share: `_schedule` tells them apart.

    `loss` is what is ascended; `bf16` computes the gradients, and nothing else, in bfloat16.
    `components` are names of `COMPONENTS`, which combine freely: "di" (input diversity, with
    `diversity` and `resize`), "ti" (smoothed gradients, with `kernel`), "si" (scale invariance,
    with `scales`), "ni" (Nesterov's momentum). Raises `AttackError` for an unknown component, and
    for a parameter of one that is not used.
    """

    loss: str = "ce"
    bf16: bool = False
    # Components that an attack has by its name, before those it is given.
    built_in: ClassVar[tuple[str, ...]] = ()

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
        given: object = self.components
        if not isinstance(given, tuple | list):
            raise AttackError(
                f"{self.name}: components are several names, such as ('di', 'ti'), not {given!r}"
            )
        object.__setattr__(self, "components", tuple(given))
        for name, component in self.combination.components:
            if component.needs_momentum and not decay and name in self.components:
                raise AttackError(
                    f"{self.name}: component '{name}' needs momentum: mifgsm with a decay above 0"
                )

    @property
    def combination(self) -> Combination:
        """The components, those of the attack's name first."""
        return combine(self, (*self.built_in, *self.components), self.name)

    def to_dict(self) -> Json:
        """Return name and hyper-parameters as plain values; of components only what is used."""
        plain = super().to_dict()
        for field in fields(ComponentSettings):
            del plain[field.name]
        given = {"components": list(self.components)} if self.components else {}
        return {**plain, **given, **self.combination.parameters()}

    def _schedule(self) -> tuple[int, float, bool, float]:
        """Return steps, step size, whether to start at random, and the momentum's decay."""
        raise NotImplementedError

    def perturb(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        generator: torch.Generator,
        stop_when_fooled: bool,
    ) -> Tensor:
        """Projected ascent from a (random) start; see `Attack.__call__` for shapes and units."""
        steps, alpha, _, decay = self._schedule()
        combination = self.combination
        adversarials = images.clone()
        noise, drawn = self._random_numbers(tuple(images.shape), generator)
        if noise is not None:
            adversarials = self._inside(images, adversarials + noise.to(images))
        velocity = torch.zeros_like(images) if decay else None
        rows = torch.arange(len(images), device=images.device)  # those still attacked
        for step in range(steps):
            batch = combination.ahead(
                adversarials[rows], None if velocity is None else velocity[rows], alpha * decay
            )
            numbers = None if drawn is None else drawn[rows.cpu(), step].to(images)
            gradient, logits = self._gradient(model, combination, batch, labels[rows], numbers)
            if stop_when_fooled:
                if combination.elsewhere:
                    with torch.no_grad():
                        logits = model(adversarials[rows])
                unfooled = (logits.argmax(dim=1) == labels[rows]) != self.targeted
                rows, gradient = rows[unfooled], gradient[unfooled]
                if not len(rows):
                    break
            gradient = combination.smooth(gradient)
            direction = -gradient if self.targeted else gradient
            if velocity is not None:
                direction = _accumulate(velocity, rows, direction, decay)
            batch = adversarials[rows] + alpha * self.geometry.steepest(direction)
            adversarials[rows] = self._inside(images[rows], batch)
        return adversarials

    def _random_numbers(
        self, shape: tuple[int, ...], generator: torch.Generator
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the noise of random starts and the random numbers of all views, or None for each.

        One stream in the order of the images, so that no image's depends on its batch.
        """
        steps, _, random_start, _ = self._schedule()
        if not random_start:
            return None, self.combination.draw(shape[0], steps, generator)
        if not self.combination.draws or not shape[0]:
            drawn = self.combination.draw(shape[0], steps, generator)
            return self.geometry.random(shape, self.eps, generator), drawn
        noises, draws = [], []
        for _ in range(shape[0]):
            noises.append(self.geometry.random((1, *shape[1:]), self.eps, generator))
            draws.append(self.combination.draw(1, steps, generator))
        return torch.cat(noises), torch.cat([draw for draw in draws if draw is not None])

    def _gradient(
        self,
        model: nn.Module,
        combination: Combination,
        images: Tensor,
        labels: Tensor,
        drawn: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Return the mean gradient over all copies, and the first copy's logits."""
        copies = len(combination.copies)
        total, first = loss_gradient(
            model, images, labels, self.loss, view=combination.view(drawn, 0), bf16=self.bf16
        )
        for index in range(1, copies):
            view = combination.view(drawn, index)
            gradient, _ = loss_gradient(model, images, labels, self.loss, view=view, bf16=self.bf16)
            total = total + gradient
        return (total / copies if copies > 1 else total), first

    def _inside(self, images: Tensor, adversarials: Tensor) -> Tensor:
        """Project onto the ball, then onto the range: clipping to [0,1] never leaves the ball."""
        delta = self.geometry.project(adversarials - images, self.eps)
        return (images + delta).clamp_(0.0, 1.0)


def _accumulate(velocity: Tensor, rows: Tensor, gradient: Tensor, decay: float) -> Tensor:
    """Update `velocity` by g_t = μ g_{t-1} + ∇/‖∇‖₁ (Dong et al. 2018, equation 6)."""
    size = gradient.flatten(1).abs().sum(dim=1).clamp_min(TINY)
    velocity[rows] = decay * velocity[rows] + gradient / per_image(size)
    return velocity[rows]


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


@dataclass(frozen=True, kw_only=True)
class NIFGSM(MIFGSM):
    """Nesterov iterative FGSM: the gradient where momentum leads (Lin et al. 2020, equation 6)."""

    built_in: ClassVar[tuple[str, ...]] = ("ni",)


@dataclass(frozen=True, kw_only=True)
class DIFGSM(MIFGSM):
    """Diverse inputs: the gradient through a random resize and pad of each step (Xie et al. 2019).

    With `diversity` probability an image is shrunk to a side of `resize` to 1 of its own. `decay`
    0 is the paper's DI²-FGSM, above it M-DI²-FGSM.
    """

    diversity: float = 0.5
    resize: float = 0.9
    built_in: ClassVar[tuple[str, ...]] = ("di",)


@dataclass(frozen=True, kw_only=True)
class TIFGSM(DIFGSM):
    """Translation invariance: gradients smoothed by a Gaussian kernel (Dong et al. 2019, eq. 7).

    `kernel` is its side in pixels, odd: 15 in the paper, on images of 299; it reaches to three
    standard deviations, as there. `diversity` 0 is TI-MI-FGSM, above it TI-DIM.
    """

    diversity: float = 0.0
    kernel: int = 5
    built_in: ClassVar[tuple[str, ...]] = ("di", "ti")
