"""Attacks by name."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from robustkit.attacks.base import Attack
from robustkit.attacks.iterative import FGSM, MIFGSM, PGD
from robustkit.errors import AttackError, did_you_mean
from robustkit.registry import Registry

ATTACKS: Registry[type[Attack]] = Registry(
    "attack", AttackError, {"fgsm": FGSM, "pgd": PGD, "mifgsm": MIFGSM}
)


def make(name: str, **parameters: Any) -> Attack:
    """The attack called `name` with these hyper-parameters.

    Raises `AttackError` for an unknown name or parameter, or a value outside its range.
    """
    attack = ATTACKS.find(name)
    known = [field.name for field in fields(attack)]
    for parameter in parameters:
        if parameter not in known:
            hint = did_you_mean(parameter, known)
            raise AttackError(f"attack {name}: unknown parameter '{parameter}'{hint}")
    return attack(**parameters)
