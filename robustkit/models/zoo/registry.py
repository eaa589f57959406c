"""The zoo's registry: names of hand-made networks, and what each of them may be given."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from robustkit.errors import ModelError, did_you_mean
from robustkit.registry import Registry

# Called as `maker(num_classes, in_channels, image_size, **options)`.
Maker = Callable[..., nn.Module]
ZOO: Registry[Maker] = Registry("model", ModelError)
MOST = 65_536  # of channels or units: more fit into no memory
SITE = ("num_classes", "in_channels", "image_size")


def find(name: str, options: Mapping[str, Any]) -> Maker:
    """The maker called `name`; raises `ModelError` for an unknown name or an option unfit for it.

    All options of the zoo are positive whole numbers up to `MOST`.
    """
    maker = ZOO.find(name)
    known = [each for each in inspect.signature(maker).parameters if each not in SITE]
    for option, value in options.items():
        if option not in known:
            hint = did_you_mean(option, known) if known else " (it has none)"
            raise ModelError(f"model '{name}': unknown option '{option}'{hint}")
        if type(value) is not int or not 1 <= value <= MOST:
            raise ModelError(
                f"model '{name}': option '{option}' must be a whole number from 1 to {MOST}, "
                f"not {value!r}"
            )
    return maker
