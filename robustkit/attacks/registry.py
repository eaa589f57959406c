"""Attacks by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from robustkit.attacks.apgd import APGD
from robustkit.attacks.base import Attack
from robustkit.attacks.components import COMPONENTS, parameters_of, with_parameters
from robustkit.attacks.iterative import DIFGSM, FGSM, MIFGSM, NIFGSM, PGD, TIFGSM, Iterative
from robustkit.attacks.libraries import torchattack, torchattacks, transferattack
from robustkit.attacks.parameters import check_parameters, names_in, split_spec
from robustkit.attacks.queries import HopSkipJump
from robustkit.attacks.universal import Patch, Universal
from robustkit.data import ImageSet
from robustkit.errors import AttackError, ConfigError
from robustkit.registry import Registry

# Prefixes of names, and what makes the attacks behind them.
LIBRARIES: Mapping[str, Callable[[str, Mapping[str, Any]], Attack]] = {
    torchattacks.PREFIX: torchattacks.make_library_attack,
    torchattack.PREFIX: torchattack.make_peer_attack,
    transferattack.PREFIX: transferattack.make_transfer_attack,
    "autoattack:": torchattacks.make_autoattack,
}
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
        "apgd": APGD,
        "hopskipjump": HopSkipJump,
        "universal": Universal,
        "patch": Patch,
    },
)


def make(spec: str, **parameters: Any) -> Attack:
    """Return the attack that `spec` names, with these hyper-parameters.

    `spec` is one of ours, with components behind it as in "mifgsm+di+ti", or "torchattacks:NAME"
    or "torchattack:NAME" for any attack of those libraries; hyper-parameters may stand in it, as in
    "mifgsm+ti?steps=40&kernel=7", and win over `parameters`. One that several components have is
    told apart by its component's name, as in "vmi.samples=5". Raises `AttackError` for an unknown
    name or parameter, or a value of a wrong type or outside its range.

    >>> make("pgd?steps=40", eps=0.1).steps
    40
    >>> make("mifgsm+di+ti?kernel=7").to_dict()["components"][1]
    {'name': 'ti', 'kernel': 7}
    >>> make("pdg")
    Traceback (most recent call last):
    robustkit.errors.AttackError: unknown attack 'pdg'; did you mean 'pgd'? ...
    """
    name, written = split_spec(spec)
    given = {**parameters, **written}
    for prefix, make_of in LIBRARIES.items():
        if name.startswith(prefix):
            return make_of(name.removeprefix(prefix), given)
    name, *components = name.split("+")
    attack = ATTACKS.find(name)
    kinds = parameters_of(attack)
    if "components" in given and "components" in kinds:
        named = names_in(given.pop("components"))
        check_parameters(name, {"components": named}, kinds)
        components += named
    if components and "components" not in kinds:
        raise AttackError(f"attack {name} takes no components: they are for iterative attacks")
    made, given = with_parameters(components, given, kinds, name)
    check_parameters(name, given, kinds)
    used: dict[str, Any] = {"components": made} if made else {}
    return attack(**given, **used)


def catalogue() -> list[tuple[str, str, str, str]]:
    """Return name, parameters, paper and what it needs of every attack, then of every component.

    Components are named as they are written behind an attack, "+di".
    """
    attacks = [
        (name, _parameters(kind, but=_EVERYWHERE), kind.paper, "") for name, kind in ATTACKS.items()
    ]
    components = [
        (f"+{name}", _parameters(kind), kind.paper, kind.needs) for name, kind in COMPONENTS.items()
    ]
    return attacks + components


_EVERYWHERE = ("eps", "norm", "targeted", "loss", "bf16", "components", "examples")


def _parameters(kind: type, but: Sequence[str] = ()) -> str:
    shown = [each for each in fields(kind) if each.name not in but]
    return ", ".join(f"{each.name}={_written(each.default)}" for each in shown)


def _written(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value).lower()


_FLAGS = {"eps": "--eps", "norm": "--norm", "targeted": "--targeted of `robustkit transfer`"}


def make_attack(spec: str, *, eps: float, norm: str, bf16: bool, targeted: bool = False) -> Attack:
    """Return the attack that `spec` names at this radius, in bfloat16 if it can and `bf16` is set.

    Raises `ConfigError` for a spec that sets a parameter by which results are labelled, and
    `AttackError` as `make` does.
    """
    for name, flag in _FLAGS.items():
        if name in split_spec(spec)[1]:
            raise ConfigError(f"{spec}: set {name} by {flag}, with which results are labelled")
    attack = make(spec, eps=eps, norm=norm, targeted=targeted)
    return replace(attack, bf16=True) if bf16 and isinstance(attack, Iterative) else attack


def check_radius(eps: float, norm: str, images: ImageSet) -> None:
    """Raise `ConfigError` for an l2 or l1 radius beyond the farthest that two images can be."""
    size = images.images[0].numel()
    farthest = {"linf": 1.0, "l2": size**0.5, "l1": size, "l0": 1.0}[norm]
    if eps > farthest:
        raise ConfigError(
            f"eps must be at most {farthest:.4g} in {norm}: no two of these images are farther "
            "apart"
        )


def trained_on(attack: Attack, images: Callable[[], ImageSet]) -> Attack:
    """Return the attack with images to train on, which are loaded only if it trains."""
    if type(attack).trained_on is Attack.trained_on:
        return attack
    return attack.trained_on(images())
