"""The zoo's registry: names of hand-made networks, and what each of them may be given."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from robustkit.errors import ModelError, did_you_mean

Maker = Callable[..., nn.Module]
ZOO: dict[str, Maker] = {}
SITE = ("num_classes", "in_channels", "image_size")


def register(name: str) -> Callable[[Maker], Maker]:
    """Enter a maker, called as `maker(num_classes, in_channels, image_size, **options)`."""

    def enter(maker: Maker) -> Maker:
        if name in ZOO:
            raise ValueError(f"zoo: '{name}' is registered twice")
        ZOO[name] = maker
        return maker

    return enter


def find(name: str, options: Mapping[str, Any]) -> Maker:
    """The maker called `name`; raises `ModelError` for an unknown name or an option unfit for it.

    All options of the zoo are positive whole numbers.
    """
    if name not in ZOO:
        raise ModelError(f"unknown model '{name}'{did_you_mean(name, ZOO)}")
    known = [each for each in inspect.signature(ZOO[name]).parameters if each not in SITE]
    for option, value in options.items():
        if option not in known:
            hint = did_you_mean(option, known) if known else " (it has none)"
            raise ModelError(f"model '{name}': unknown option '{option}'{hint}")
        if type(value) is not int or value < 1:
            raise ModelError(
                f"model '{name}': option '{option}' must be a whole number from 1, not {value!r}"
            )
    return ZOO[name]
