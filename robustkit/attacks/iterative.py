"""FGSM, PGD and MI-FGSM: one loop of projected steepest ascent, into which components plug."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from robustkit.attacks.ascent import Ascent
from robustkit.attacks.base import Attack
from robustkit.attacks.components import (
    COMPONENTS,
    Combination,
    Component,
    Momentum,
    combine,
    make_component,
    of_unit_mean,
    parameters_of,
)
from robustkit.attacks.gradients import LOSSES, View, loss_gradient
from robustkit.attacks.ranges import MOST_GRADIENT_STEPS, check_at_least_zero, check_count
from robustkit.errors import AttackError
from robustkit.reading import Json

MOST_DECAY = 10  # beyond it an attack runs out of numbers, and would seem to fail
VERSION = 2  # of attacks with built-in components


@dataclass(frozen=True, kw_only=True)
class Iterative(Attack):
    """The loop that all share: `_schedule` tells them apart.

    `loss` is what is ascended; `bf16` computes the gradients, and nothing else, in bfloat16.
    `components` are names of `COMPONENTS` (also with parameters, "di?diversity=0.7") or components
    themselves; they combine freely. Raises `AttackError` for an unknown one, for a parameter that
    it does not have, and for two that do not go together.
    """

    loss: str = "ce"
    bf16: bool = False
    components: tuple[Component | str, ...] = ()
    # Components that an attack has by its name, before those it is given.
    built_in: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        LOSSES.find(self.loss)
        steps, alpha, _, decay = self._schedule()
        check_count(f"{self.name}: steps", steps, MOST_GRADIENT_STEPS)
        check_at_least_zero(f"{self.name}: alpha", alpha)
        _check_decay(self.name, decay)
        given: object = self.components
        if not isinstance(given, tuple | list):
            raise AttackError(
                f"{self.name}: components are several names, such as ('di', 'ti'), not {given!r}"
            )
        object.__setattr__(self, "components", combine(given, self.name))
        every = self.combination.components
        if every and self.norm == "l0":
            raise AttackError(f"{self.name}: components are for linf, l2 and l1, not for l0")
        _check_decay(self.name, self.decay_of_momentum)
        if decay and any(isinstance(each, Momentum) for each in every):
            raise AttackError(f"{self.name}: component 'mi' is for attacks without momentum")
        for each in every:
            if each.needs_target not in (None, self.targeted):
                kind = "targeted" if each.needs_target else "untargeted"
                raise AttackError(f"{self.name}: component '{each.name}' is for {kind} attacks")
            if each.momentum and not self.decay_of_momentum:
                raise AttackError(
                    f"{self.name}: component '{each.name}' needs momentum: mifgsm with a decay "
                    "above 0, or the component 'mi'"
                )

    @property
    def combination(self) -> Combination:
        """The components, those of the attack's name first."""
        own = [
            make_component(
                name, {each: getattr(self, each) for each in parameters_of(COMPONENTS[name])},
                self.name,
            )
            for name in self.built_in
        ]  # fmt: skip
        return Combination(combine((*own, *self.components), self.name))

    @property
    def mixes(self) -> bool:
        """Whether it mixes other images in."""
        return any(each.mixes for each in self.combination.components)

    @property
    def decay_of_momentum(self) -> float:
        """The decay of the momentum, the attack's own or that of the component "mi"."""
        given = [each.decay for each in self.components if isinstance(each, Momentum)]
        return given[0] if given else self._schedule()[3]

    def to_dict(self) -> Json:
        """Return name and hyper-parameters as plain values; of components only what is used."""
        plain = {each.name: getattr(self, each.name) for each in fields(self)}
        del plain["components"]
        used = [each.to_dict() for each in self.components if isinstance(each, Component)]
        # What is built in draws other numbers, and looks ahead further, than it did at first.
        version = {"version": VERSION} if self.built_in else {}
        given = {"components": used} if used else {}
        return {"name": self.name, **version, **plain, **given}

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
        others: Tensor | None = None,
    ) -> Tensor:
        """Projected ascent from a (random) start; see `Attack.__call__` for shapes and units."""
        steps, alpha, _, _ = self._schedule()
        combination, decay = self.combination, self.decay_of_momentum
        adversarials = images.clone()
        noise, seeds = self._random_numbers(tuple(images.shape), generator)
        if noise is not None:
            adversarials = self._inside(images, adversarials + noise.to(images))
        ascent = Ascent(
            source=model,
            model=model,
            geometry=self.geometry,
            clean=images,
            labels=labels,
            seeds=seeds.to(images.device),
            eps=self.eps,
            alpha=alpha,
            decay=decay,
            targeted=self.targeted,
            steps=steps,
            rows=torch.arange(len(images), device=images.device),  # those still attacked
            others=others,
        )
        ascent.model = combination.operated(model, ascent)
        oracle = _Oracle(self, combination, ascent)
        ascent.gradient_at = oracle.of
        combination.prepare(ascent)
        for step in range(steps + combination.further):
            oracle.begin(step)
            if step == steps:
                if stop_when_fooled and not self._leave_fooled(model, adversarials, ascent):
                    break
                adversarials[ascent.rows] = combination.turn(adversarials[ascent.rows], ascent)
            ascent.here = adversarials[ascent.rows]
            batch = combination.ahead(ascent.here, ascent)
            gradient = combination.gradient(oracle, batch, ascent)
            if stop_when_fooled:
                logits = oracle.logits
                if logits is None or combination.elsewhere:
                    with torch.no_grad():
                        logits = model(adversarials[ascent.rows])
                unfooled = (logits.argmax(dim=1) == ascent.targets) != self.targeted
                ascent.rows, gradient = ascent.rows[unfooled], gradient[unfooled]
                if not len(ascent.rows):
                    break
            gradient = combination.smooth(gradient, ascent)
            direction = -gradient if self.targeted else gradient
            if decay:
                direction = _accumulate(ascent, direction)
            stride = combination.stride(alpha * self.geometry.steepest(direction), ascent)
            batch = adversarials[ascent.rows] + stride
            adversarials[ascent.rows] = self._inside(ascent.originals, batch)
        return adversarials

    def _leave_fooled(self, model: nn.Module, adversarials: Tensor, ascent: Ascent) -> bool:
        """Go on with those that are not fooled; return whether there are any."""
        with torch.no_grad():
            logits = model(adversarials[ascent.rows])
        ascent.rows = ascent.rows[(logits.argmax(dim=1) == ascent.targets) != self.targeted]
        return bool(len(ascent.rows))

    def _random_numbers(
        self, shape: tuple[int, ...], generator: torch.Generator
    ) -> tuple[Tensor | None, Tensor]:
        """Return the noise of random starts, or None, and the seed of every image, int64 (N,).

        One stream in the order of the images, so that no image's depends on its batch.
        """
        random_start, seeded = self._schedule()[2], bool(self.combination.components)
        if not random_start:
            seeds = _seeds(shape[0], generator) if seeded else torch.zeros(shape[0]).long()
            return None, seeds
        if not seeded:
            noise = self.geometry.random(shape, self.eps, generator)
            return noise, torch.zeros(shape[0]).long()
        noises, drawn = [], []
        for _ in range(shape[0]):
            noises.append(self.geometry.random((1, *shape[1:]), self.eps, generator))
            drawn.append(_seeds(1, generator))
        return torch.cat(noises), torch.cat(drawn)

    def _inside(self, images: Tensor, adversarials: Tensor) -> Tensor:
        """Project onto the ball, then onto the range: clipping to [0,1] never leaves the ball."""
        delta = self.geometry.project(adversarials - images, self.eps)
        return (images + delta).clamp_(0.0, 1.0)


def _check_decay(attack: str, decay: float) -> None:
    """Raise `AttackError` unless a decay is in [0, `MOST_DECAY`]."""
    if not 0 <= decay <= MOST_DECAY:
        raise AttackError(f"{attack}: decay must be in [0, {MOST_DECAY}], not {decay:g}")


def _seeds(count: int, generator: torch.Generator) -> Tensor:
    return torch.randint(2**62, (count,), generator=generator)


@dataclass(eq=False)
class _Oracle:
    """Gives gradients of one step: the mean over all copies of what the model is shown.

    `logits` are those of its first copy of the first call, None where something else is ascended.
    """

    attack: Iterative
    combination: Combination
    ascent: Ascent
    logits: Tensor | None = None

    def begin(self, step: int) -> None:
        """Begin a step."""
        self.ascent.step, self.ascent.calls, self.logits = step, 0, None

    def __call__(self, images: Tensor) -> Tensor:
        """Return the mean gradient (n,C,H,W)."""
        return self.of(self.ascent.model, images)

    def of(self, model: nn.Module, images: Tensor) -> Tensor:
        """Return the mean gradient (n,C,H,W) of a model."""
        copies, total = self.combination.copies, None
        for number, copy in enumerate(copies):
            self.ascent.copy = number
            view = partial(self.combination.view, ascent=self.ascent, copy=copy)
            gradient, logits = self._single(model, images, view)
            total = gradient if total is None else total + gradient
            self.logits = logits if self.logits is None else self.logits
        self.ascent.calls, self.ascent.copy = self.ascent.calls + 1, 0
        assert total is not None  # there is at least one copy
        return total / len(copies) if len(copies) > 1 else total

    def _single(self, model: nn.Module, images: Tensor, view: View) -> tuple[Tensor, Tensor | None]:
        if self.combination.has_objective:
            leaf = images.detach().requires_grad_(True)
            kind, bf16 = images.device.type, self.attack.bf16
            with torch.enable_grad():
                shown = view(leaf)
                with torch.autocast(kind, torch.bfloat16, enabled=bf16):
                    value = self.combination.objective(shown, self.ascent)
            if value is not None:
                (gradient,) = torch.autograd.grad(value.to(images.dtype).sum(), leaf)
                return gradient, None
        return loss_gradient(
            model,
            images,
            self.ascent.targets,
            self.attack.loss,
            view=view,
            bf16=self.attack.bf16,
        )


def _accumulate(ascent: Ascent, gradient: Tensor) -> Tensor:
    """Return the velocity, and keep it: μ times the last one plus the gradient of unit mean.

    Dong et al. 2018, equation 6, has the gradient's sum for its mean, which changes no step; where
    looking ahead leads depends on it, and there the mean is what was published as code.
    """
    unit, last = of_unit_mean(gradient), ascent.recall("velocity")
    return ascent.keep("velocity", unit if last is None else ascent.decay * last + unit)


@dataclass(frozen=True, kw_only=True)
class FGSM(Iterative):
    """Fast gradient sign method: one step of size ε (Goodfellow et al. 2015)."""

    paper: ClassVar[str] = "Goodfellow et al. 2015"

    def _schedule(self) -> tuple[int, float, bool, float]:
        return 1, self.eps, False, 0.0


@dataclass(frozen=True, kw_only=True)
class PGD(Iterative):
    """Projected gradient descent (Madry et al. 2018).

    `alpha` is the step size in units of images in [0,1]; None takes 2.5·ε/steps, with which the
    boundary can be reached from any start.
    """

    paper: ClassVar[str] = "Madry et al. 2018"
    steps: int = 10
    alpha: float | None = None
    random_start: bool = True

    def _schedule(self) -> tuple[int, float, bool, float]:
        alpha = 2.5 * self.eps / max(self.steps, 1) if self.alpha is None else self.alpha
        return self.steps, alpha, self.random_start, 0.0


@dataclass(frozen=True, kw_only=True)
class MIFGSM(Iterative):
    """Momentum iterative FGSM (Dong et al. 2018); `alpha` None takes ε/steps, `decay` is μ."""

    paper: ClassVar[str] = "Dong et al. 2018"
    steps: int = 10
    alpha: float | None = None
    decay: float = 1.0

    def _schedule(self) -> tuple[int, float, bool, float]:
        alpha = self.eps / max(self.steps, 1) if self.alpha is None else self.alpha
        return self.steps, alpha, False, self.decay


@dataclass(frozen=True, kw_only=True)
class NIFGSM(MIFGSM):
    """Nesterov iterative FGSM: the gradient where momentum leads (Lin et al. 2020, equation 6)."""

    paper: ClassVar[str] = "Lin et al. 2020, equation 6"
    built_in: ClassVar[tuple[str, ...]] = ("ni",)


@dataclass(frozen=True, kw_only=True)
class DIFGSM(MIFGSM):
    """Diverse inputs: the gradient through a random resize and pad of each step (Xie et al. 2019).

    With `diversity` probability an image is shrunk to a side of `resize` to 1 of its own. `decay`
    0 is the paper's DI²-FGSM, above it M-DI²-FGSM.
    """

    paper: ClassVar[str] = "Xie et al. 2019"
    diversity: float = 0.5
    resize: float = 0.9
    built_in: ClassVar[tuple[str, ...]] = ("di",)


@dataclass(frozen=True, kw_only=True)
class TIFGSM(DIFGSM):
    """Translation invariance: gradients smoothed by a Gaussian kernel (Dong et al. 2019, eq. 7).

    `kernel` is its side in pixels, odd: 15 in the paper, on images of 299; it reaches to three
    standard deviations, as there. `diversity` 0 is TI-MI-FGSM, above it TI-DIM.
    """

    paper: ClassVar[str] = "Dong et al. 2019, equation 7"
    diversity: float = 0.0
    kernel: int = 5
    built_in: ClassVar[tuple[str, ...]] = ("di", "ti")
