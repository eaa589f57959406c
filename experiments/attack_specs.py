"""Attacks as options name them: radius, norm and target are the verb's to say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from robustkit.attacks import Attack, Iterative, make
from robustkit.attacks.parameters import split_spec
from robustkit.data import ImageSet
from robustkit.errors import ConfigError

_FLAGS = {"eps": "--eps", "norm": "--norm", "targeted": "--targeted of `robustkit transfer`"}


def make_attack(spec: str, *, eps: float, norm: str, bf16: bool, targeted: bool = False) -> Attack:
    """The attack that `spec` names at this radius; `bf16` where the attack is our own.

    Raises `ConfigError` for a spec that says itself what figures are labelled with, and
    `AttackError` as `make` does.
    """
    for name, flag in _FLAGS.items():
        if name in split_spec(spec)[1]:
            raise ConfigError(f"{spec}: say {name} by {flag}, which figures are labelled with")
    attack = make(spec, eps=eps, norm=norm, targeted=targeted)
    return replace(attack, bf16=True) if bf16 and isinstance(attack, Iterative) else attack


def check_radius(eps: float, norm: str, images: ImageSet) -> None:
    """Raise `ConfigError` for an l2 radius beyond the farthest that two images can be apart."""
    farthest = images.images[0].numel() ** 0.5
    if norm == "l2" and eps > farthest:
        raise ConfigError(
            f"eps must be at most {farthest:.4g} in l2: no two of these images are farther apart"
        )


def trained_on(attack: Attack, images: Callable[[], ImageSet]) -> Attack:
    """The attack with images to train on, which are loaded for the few attacks that train."""
    if type(attack).trained_on is Attack.trained_on:
        return attack
    return attack.trained_on(images())
