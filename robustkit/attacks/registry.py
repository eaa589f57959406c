"""Attacks by name."""

from __future__ import annotations

import types
import typing
from dataclasses import fields
from typing import Any

from robustkit.attacks.base import Attack
from robustkit.attacks.foreign import PREFIX, make_foreign
from robustkit.attacks.iterative import FGSM, MIFGSM, PGD
from robustkit.attacks.parameters import check_parameters, names_in, split_spec
from robustkit.attacks.variants import DIFGSM, NIFGSM, TIFGSM
from robustkit.errors import AttackError
from robustkit.registry import Registry

ATTACKS: Registry[type[Attack]] = Registry(
    "attack",
    AttackError,
    {
        "fgsm": FGSM,
        "pgd": PGD,
        "mifgsm": MIFGSM,
        "nifgsm": NIFGSM,
        "difgsm": DIFGSM,
        "tifgsm": TIFGSM,
    },
)


def make(spec: str, **parameters: Any) -> Attack:
    """The attack that `spec` names, with these hyper-parameters.

    `spec` is one of ours, or "torchattacks:NAME" for any attack of that library; hyper-parameters
    may stand in it, as in "pgd?steps=40&alpha=2/255", and win over `parameters`. Raises
    `AttackError` for an unknown name or parameter, or a value of a wrong type or outside its range.

    >>> make("pgd?steps=40", eps=0.1).steps
    40
    >>> make("mifgsm?components=di,ti&kernel=7").to_dict()["components"]
    ['di', 'ti']
    >>> make("pdg")
    Traceback (most recent call last):
    robustkit.errors.AttackError: unknown attack 'pdg'; did you mean 'pgd'? ...
    """
    name, written = split_spec(spec)
    given = {**parameters, **written}
    if name.startswith(PREFIX):
        return make_foreign(name.removeprefix(PREFIX), given)
    attack = ATTACKS.find(name)
    hints = typing.get_type_hints(attack)
    kinds = {each.name: _types(hints[each.name]) for each in fields(attack)}
    given = {
        each: names_in(value) if kinds.get(each) == (tuple,) else value
        for each, value in given.items()
    }
    check_parameters(name, given, kinds)
    return attack(**given)


def _types(hint: Any) -> tuple[type, ...]:
    if isinstance(hint, types.UnionType):
        return typing.get_args(hint)
    return (typing.get_origin(hint) or hint,)
