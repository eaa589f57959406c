"""What attacks of other libraries have in common: called on a model, held to our contract."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robustkit.attacks.base import Attack
from robustkit.attacks.norms import per_image
from robustkit.compute import is_out_of_memory
from robustkit.compute.seeds import isolated_rng
from robustkit.errors import AttackError
from robustkit.reading import Json

# What the libraries raise for parameters and images that they cannot use.
ERRORS = (
    RuntimeError,
    ValueError,
    IndexError,
    TypeError,
    ArithmeticError,
    AssertionError,
    KeyError,
    AttributeError,
)
WHOLE_RANGE = 1.0  # the linf radius that no image in [0,1] can leave
Opened = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class LibraryAttack(Attack):
    """The attack `library_name` of another library with `parameters` as it calls them.

    `bounded` tells whether it keeps to the ε-ball itself. Those that look for the nearest
    adversarial at whatever distance (CW, DeepFool, …) do not: of what they find, what lies outside
    `eps` is given back as the clean image, since it is no success. Their `eps` is by default the
    whole range.
    """

    library_name: str
    parameters: tuple[tuple[str, Any], ...] = ()
    bounded: bool = True

    @property
    @abstractmethod
    def version(self) -> str:
        """The library's version."""

    @abstractmethod
    def opened(self, model: nn.Module, classes: int, seed: int) -> Opened:
        """Return the library's attack on a model: a function of images and labels."""

    def to_dict(self) -> Json:
        """Return name and hyper-parameters as plain values: the attack's identity in caches."""
        return {
            "name": self.name,
            "eps": self.eps,
            "norm": self.norm,
            "targeted": self.targeted,
            "parameters": dict(self.parameters),
            "version": self.version,
        }

    def perturb(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        generator: torch.Generator,
        stop_when_fooled: bool,
        others: Tensor | None = None,
    ) -> Tensor:
        """Run the library's attack; `stop_when_fooled` is its own affair.

        Raises `AttackError` where the attack cannot do what is asked or cannot take these images.
        """
        seed = int(torch.randint(2**31, (1,), generator=generator))
        with isolated_rng(seed):
            attack = self.opened(model, _classes(model, images), seed)
            adversarials = _call(attack, images, labels, self.name)
        # Some divide by a gradient that is zero: where nothing was found, the image stays.
        found = adversarials.isfinite().flatten(1).all(dim=1)
        adversarials = torch.where(per_image(found), adversarials, images)
        return adversarials if self.bounded else self.kept_in_ball(adversarials, images)


def kinds_of(parameter: inspect.Parameter) -> tuple[type, ...]:
    """Return the type of a parameter's default; none where it has no default or that is None."""
    default = parameter.default
    return () if default in (parameter.empty, None) else (type(default),)


def check_signs(
    label: str, given: Mapping[str, Any], accepted: Mapping[str, inspect.Parameter]
) -> None:
    """Refuse numbers below zero where the library's own are not, and counts of nothing."""
    for name, value in given.items():
        default = accepted[name].default if name in accepted else None
        numbers = all(type(item) in (int, float) for item in (default, value))
        if default is None or not numbers or default < 0:
            continue
        least = 1 if type(default) is int and default >= 1 and type(value) is int else 0
        if not least <= value < float("inf"):
            raise AttackError(f"attack {label}: {name} must be at least {least}, not {value:g}")


def _call(attack: Opened, images: Tensor, labels: Tensor, name: str) -> Tensor:
    try:
        with torch.enable_grad():
            # Copies: some ask for gradients of the very images that they are given.
            adversarials = attack(images.clone(), labels.clone())
    except ERRORS as error:
        if is_out_of_memory(error):
            raise  # a smaller batch may do
        shape = "x".join(map(str, images.shape[1:]))
        raise AttackError(f"{name} failed on images of {shape}: {one_line(error)}") from error
    return adversarials.detach().to(images)


def _classes(model: nn.Module, images: Tensor) -> int:
    with torch.no_grad():
        return int(model(images[:1]).shape[1])


def one_line(error: Exception) -> str:
    """Return an error's message on one line, or its kind where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
