"""Networks made elsewhere: torchvision's by name, and users' own by `package.module:factory`."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from robustkit import extensions
from robustkit.errors import ModelError, did_you_mean
from robustkit.models.dryrun import dry_run
from robustkit.models.fitting import check_logits, make_fitting
from robustkit.models.layers import GreyToColour, chain

# Their auxiliary classifiers would make the output in train mode something else than logits.
_WITH_AUXILIARIES = ("googlenet", "inception_v3")


def from_torchvision(name: str, num_classes: int, in_channels: int, size: int) -> nn.Module:
    """torchvision's classifier `name` with fresh weights; grey images are shown to it in colour.

    Raises `ModelError` for an unknown name, for images that are neither grey nor colour, and for
    images too small for the network.
    """
    from torchvision import models as torchvision_models  # slow to import, and seldom needed

    names = torchvision_models.list_models(module=torchvision_models)
    if name not in names:
        near = ", ".join(difflib.get_close_matches(name, names, n=3, cutoff=0.0))
        raise ModelError(f"torchvision has no classifier '{name}'; the nearest names are {near}")
    if in_channels not in (1, 3):
        raise ModelError(f"torchvision:{name} takes images of 1 or 3 channels, not {in_channels}")
    options: dict[str, Any] = {"num_classes": num_classes}
    if name in _WITH_AUXILIARIES:
        options |= {"aux_logits": False, "init_weights": False}

    def make(_: int) -> nn.Module:
        net: nn.Module = torchvision_models.get_model(name, weights=None, **options)
        return net if in_channels == 3 else chain(("colour", GreyToColour()), ("net", net))

    return make_fitting(make, f"torchvision:{name}", num_classes, in_channels, size)


def from_factory(spec: str, num_classes: int, in_channels: int, size: int) -> nn.Module:
    """What the function `package.module:factory` returns.

    It is called with those of `num_classes`, `in_channels`, `image_size` that its signature has.
    Modules are looked for in the current folder too. Raises `ModelError` when it cannot be found
    or called so, or does not return a network from such images to `num_classes` logits.
    """
    factory = _find(spec)
    offered = {"num_classes": num_classes, "in_channels": in_channels, "image_size": size}
    net = factory(**_wanted(spec, factory, offered))
    if not isinstance(net, nn.Module):
        raise ModelError(f"{spec}: returns {type(net).__name__}, not a torch.nn.Module")
    try:
        output = dry_run(net, (in_channels, size, size))
    except (RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ModelError(
            f"{spec}: its network cannot take images of {in_channels}x{size}x{size} ({reason})"
        ) from error
    check_logits(output, spec, num_classes)
    return net


def _find(spec: str) -> Callable[..., object]:
    module_name, _, attribute = spec.partition(":")
    try:
        module = extensions.found(module_name)
    except (ImportError, ValueError, TypeError) as error:
        raise ModelError(f"{spec}: cannot import '{module_name}' ({error})") from error
    factory: Callable[..., object] | None = getattr(module, attribute, None)
    if factory is None or not callable(factory):
        functions = [name for name, value in vars(module).items() if callable(value)]
        hint = did_you_mean(attribute, functions)
        raise ModelError(f"{spec}: '{module_name}' has no function '{attribute}'{hint}")
    return factory


def _wanted(spec: str, factory: Callable[..., object], offered: dict[str, int]) -> dict[str, int]:
    parameters = inspect.signature(factory).parameters.values()
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return offered
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    for each in parameters:
        needed = each.default is each.empty and each.kind not in variadic
        if needed and (each.name not in offered or each.kind is each.POSITIONAL_ONLY):
            raise ModelError(
                f"{spec}: needs the argument '{each.name}'; a factory is called with num_classes, "
                "in_channels and image_size by name"
            )
    names = {each.name for each in parameters}
    return {name: value for name, value in offered.items() if name in names}
