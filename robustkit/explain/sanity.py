"""Does a map depend on what the model has learnt? Randomise its layers and compare."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn

from robustkit.compute import derive_seed, isolated_rng

Make = Callable[[nn.Module], Tensor]


def layers_with_weights(model: nn.Module) -> list[str]:
    """Modules that have parameters of their own and can draw them anew, from the output back."""
    names = [
        name
        for name, module in model.named_modules()
        if hasattr(module, "reset_parameters")
        and any(True for _ in module.parameters(recurse=False))
    ]
    return names[::-1]


def randomised(
    model: nn.Module, *, cascading: bool = True, seed: int = 0
) -> Iterator[tuple[str, nn.Module]]:
    """Copies of `model` with layers drawn anew: all from the last to each, or each alone.

    Model-parameter randomisation of Adebayo et al. 2018. Yields the layer's name and the copy; the
    model given is not touched.
    """
    changed = copy.deepcopy(model)
    for name in layers_with_weights(model):
        if not cascading:
            changed = copy.deepcopy(model)
        with isolated_rng(derive_seed("sanity", seed, name)):
            module: Any = changed.get_submodule(name)
            module.reset_parameters()
        yield name, changed


def maps_under_randomisation(
    model: nn.Module, make: Make, *, cascading: bool = True, seed: int = 0
) -> Iterator[tuple[str, Tensor]]:
    """What `make(model)` gives of each of the `randomised` copies, by the layer's name."""
    for name, copied in randomised(model, cascading=cascading, seed=seed):
        yield name, make(copied)
