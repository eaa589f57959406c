"""Does a map depend on what the model has learnt? Randomise its layers and compare."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from robustkit.compute import derive_seed, isolated_rng

Make = Callable[[nn.Module], Tensor]


def layers_with_weights(model: nn.Module, order: Sequence[str] = ()) -> list[str]:
    """Modules that have parameters of their own, from the output back; see `randomised`."""
    names = [name for name, module in model.named_modules() if _own(module)]
    met = {name: place for place, name in enumerate(order)}
    # Stable: those that the forward pass never met stay where they are defined.
    place = -1
    places = {}
    for name in names:
        place = met.get(name, place)
        places[name] = place
    return sorted(names, key=places.__getitem__)[::-1]


def randomised(
    model: nn.Module,
    *,
    cascading: bool = True,
    seed: int = 0,
    order: Sequence[str] = (),
) -> Iterator[tuple[str, nn.Module]]:
    """Copies of `model` with layers drawn anew: all from the last to each, or each alone.

    Model-parameter randomisation of Adebayo et al. 2018. `order` are the names of modules as the
    forward pass meets them (`Trace.modules`); without it, as the model defines them. A layer that
    knows how is reset to a fresh one; whatever parameters stay as they were are shuffled. Yields
    the layer's name and the copy, of which cascading there is one that changes from yield to
    yield; the model given is not touched.
    """
    changed = copy.deepcopy(model)
    for name in layers_with_weights(model, order):
        if not cascading:
            changed = copy.deepcopy(model)
        with isolated_rng(derive_seed("sanity", seed, name)), torch.no_grad():
            module: Any = changed.get_submodule(name)
            before = [parameter.clone() for parameter in _own(module)]
            if hasattr(module, "reset_parameters") and not is_parametrized(module):
                module.reset_parameters()
            for parameter, old in zip(_own(module), before, strict=True):
                # A weight norm computes the weight that was reset from these.
                if torch.equal(parameter, old):
                    places = torch.randperm(parameter.numel(), device=parameter.device)
                    parameter.copy_(parameter.flatten()[places].view(parameter.shape))
        yield name, changed


def _own(module: nn.Module) -> list[nn.Parameter]:
    return list(module.parameters(recurse=False))


def maps_under_randomisation(
    model: nn.Module, make: Make, *, cascading: bool = True, seed: int = 0
) -> Iterator[tuple[str, Tensor]]:
    """What `make(model)` gives of each of the `randomised` copies, by the layer's name."""
    for name, copied in randomised(model, cascading=cascading, seed=seed):
        yield name, make(copied)
