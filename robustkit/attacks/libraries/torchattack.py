"""Attacks of the package torchattack by name (extra `bench`).

Its attacks put hooks into a model, or other modules in their places, for good: each is given a
copy. Those for one architecture find modules by their names in the net, behind what prepares its
input.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Any

from torch import nn

from robustkit.attacks.libraries.base import (
    ERRORS,
    WHOLE_RANGE,
    LibraryAttack,
    Opened,
    check_signs,
    kinds_of,
    one_line,
)
from robustkit.attacks.parameters import check_parameters
from robustkit.compute import device_of
from robustkit.errors import AttackError, did_you_mean
from robustkit.models import Classifier

PREFIX = "torchattack:"
_OURS = (
    *("self", "model", "normalize", "device", "eps", "targeted", "num_classes"),
    *("clip_min", "clip_max"),
)
_L2 = ("PGDL2",)


@dataclass(frozen=True, kw_only=True)
class PeerAttack(LibraryAttack):
    """The attack `library_name` of torchattack."""

    @property
    def name(self) -> str:
        """As on the command line."""
        return PREFIX + self.library_name

    @property
    def version(self) -> str:
        """The library's version."""
        return version("torchattack")

    def opened(self, model: nn.Module, classes: int, seed: int) -> Opened:
        """Return the library's attack on a copy of the model."""
        kind = attack_classes()[self.library_name]
        known = inspect.signature(kind.__init__).parameters
        offered = {"eps": self.eps, "targeted": self.targeted, "num_classes": classes}
        chosen = {name: value for name, value in offered.items() if name in known}
        # Some take gradients of features that do not depend on what they attack.
        attacked = copy.deepcopy(model).requires_grad_(True)
        net, normalise = attacked, None
        plain = isinstance(attacked, Classifier) and not attacked.in_front
        if isinstance(attacked, Classifier) and plain and attacked.order is None:
            net, normalise = attacked.net, attacked.preprocess
        try:
            attack: Opened = kind(
                net, normalise, device_of(model), **chosen, **dict(self.parameters)
            )
        except (*ERRORS, ImportError) as error:
            raise AttackError(f"{self.name}: {one_line(error)}") from error
        return attack


def attack_classes() -> dict[str, Any]:
    """Return the library's attacks on a model by their names; raises `AttackError` without it."""
    try:
        library = import_module("torchattack")
    except ImportError:
        raise AttackError(
            "torchattack is not installed: pip install torchattack (extra `bench`)"
        ) from None
    return {
        name: kind
        for name, kind in sorted(library.ATTACK_REGISTRY.items())
        # The others are trained generators, whose weights would have to be downloaded.
        if not kind.is_category("GENERATIVE") and name not in _WITH_DOWNLOADS
    }


_WITH_DOWNLOADS = ("SSP",)  # it looks through a pretrained VGG-16


def make_peer_attack(name: str, given: Mapping[str, Any]) -> PeerAttack:
    """Return the attack `name` of torchattack with the parameters `given`.

    Raises `AttackError` for an unknown name or parameter, a value of another type than the
    signature's default, a norm that the attack cannot do, or a target for one that takes none.
    """
    classes, label = attack_classes(), PREFIX + name
    if name not in classes:
        raise AttackError(f"torchattack has no attack '{name}'{did_you_mean(name, classes)}")
    signature = inspect.signature(classes[name].__init__).parameters
    accepted = {key: item for key, item in signature.items() if key not in _OURS}
    kinds = {key: kinds_of(item) for key, item in accepted.items()}
    check_parameters(label, given, kinds | {"eps": (float,), "norm": (str,), "targeted": (bool,)})
    check_signs(label, given, accepted)
    norm = given.get("norm", "l2" if name in _L2 else "linf")
    if norm != ("l2" if name in _L2 else "linf") and "eps" in signature:
        raise AttackError(f"attack {label} works in {'l2' if name in _L2 else 'linf'} only")
    if given.get("targeted") and "targeted" not in signature:
        raise AttackError(f"{label} has no targeted form")
    bounded = "eps" in signature
    return PeerAttack(
        library_name=name,
        parameters=tuple((key, given[key]) for key in accepted if key in given),
        bounded=bounded,
        eps=given.get("eps", signature["eps"].default if bounded else WHOLE_RANGE),
        norm=norm,
        targeted=given.get("targeted", False),
    )
