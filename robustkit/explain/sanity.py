"""Does a map depend on what the model has learnt? Randomise its layers and compare."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from robustkit.compute import derive_seed, isolated_rng

Make = Callable[[nn.Module], Tensor]


def layers_with_weights(model: nn.Module) -> list[str]:
    """Modules that have parameters of their own, from the output back."""
    names = [name for name, module in model.named_modules() if _own(module)]
    return names[::-1]


def randomised(
    model: nn.Module, *, cascading: bool = True, seed: int = 0
) -> Iterator[tuple[str, nn.Module]]:
    """Copies of `model` with layers drawn anew: all from the last to each, or each alone.

    Model-parameter randomisation of Adebayo et al. 2018. A layer that knows how is reset to a
    fresh one; the parameters of any other are shuffled. Yields the layer's name and the copy, of
    which cascading there is one that changes from yield to yield; the model given is not touched.
    """
    changed = copy.deepcopy(model)
    for name in layers_with_weights(model):
        if not cascading:
            changed = copy.deepcopy(model)
        with isolated_rng(derive_seed("sanity", seed, name)), torch.no_grad():
            module: Any = changed.get_submodule(name)
            if hasattr(module, "reset_parameters") and not is_parametrized(module):
                module.reset_parameters()
            else:
                for parameter in _own(module):
                    order = torch.randperm(parameter.numel(), device=parameter.device)
                    parameter.copy_(parameter.flatten()[order].view(parameter.shape))
        yield name, changed


def _own(module: nn.Module) -> list[nn.Parameter]:
    return list(module.parameters(recurse=False))


def maps_under_randomisation(
    model: nn.Module, make: Make, *, cascading: bool = True, seed: int = 0
) -> Iterator[tuple[str, Tensor]]:
    """What `make(model)` gives of each of the `randomised` copies, by the layer's name."""
    for name, copied in randomised(model, cascading=cascading, seed=seed):
        yield name, make(copied)
