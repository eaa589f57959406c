"""The repairable weights of a net, and selections among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustkit.errors import RepairError, did_you_mean
from robustkit.models import Classifier

LAYERS = ("linear", "conv", "both", "last", "before-last")
Layer = nn.Linear | nn.Conv2d


def net_of(model: nn.Module) -> nn.Module:
    """Return the module that names layers and parameters: a classifier's net, or the model."""
    return model.net if isinstance(model, Classifier) else model


def seen_by_net(model: nn.Module, pixels: Tensor) -> Tensor:
    """Return the input of `net_of(model)` for images (N,C,H,W) in [0,1]."""
    if isinstance(model, Classifier):
        normalised: Tensor = model.preprocess(pixels)
        return normalised
    return pixels


def repairable(model: nn.Module, layers: Sequence[str] = ("linear",)) -> dict[str, Layer]:
    """Return the layers of `net_of(model)` that `layers` name, by module name, in the net's order.

    "linear" are all fully connected layers, "conv" all convolutions, "both" either; "last" and
    "before-last" count fully connected layers from the end; anything else is a layer's name.
    Biases are never repaired. Raises `RepairError` where the net has no such layer.
    """
    known = {
        name: module
        for name, module in net_of(model).named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }
    linear = [name for name, module in known.items() if isinstance(module, nn.Linear)]
    chosen: set[str] = set()
    for word in layers:
        chosen |= set(_named(word, list(known), linear))
    # A weight that several layers share is one weight: it is listed under its first name.
    owners: dict[int, str] = {}
    for name in known:
        if name in chosen:
            owners.setdefault(id(known[name].weight), name)
    return {name: known[name] for name in owners.values()}


def _named(word: str, known: Sequence[str], linear: Sequence[str]) -> Sequence[str]:
    conv = [name for name in known if name not in linear]
    if word == "both":
        found: Sequence[str] = known
    elif word in ("conv", "linear"):
        found = conv if word == "conv" else linear
    elif word in ("last", "before-last"):
        back = 1 if word == "last" else 2
        found = linear[-back:][:1] if len(linear) >= back else []
    elif word in known:
        return [word]
    else:
        raise RepairError(f"no layer '{word}'{did_you_mean(word, [*LAYERS, *known])}")
    if not found:
        kind = "convolution" if word == "conv" else "fully connected layer"
        behind = " before the last" if word == "before-last" else ""
        raise RepairError(
            f"the model has no {kind}{behind}; its layers: {', '.join(known) or 'none'}"
        )
    return found


@dataclass(frozen=True, eq=False)
class Selection:
    """Chosen weights: for each layer's name the flat indices int64 into its weight, ascending.

    Layers without a chosen weight are not listed. The order of layers and indices is that of every
    vector of values (D,) over the selection.
    """

    indices: Mapping[str, Tensor]

    def __len__(self) -> int:
        return sum(len(each) for each in self.indices.values())

    def counts(self) -> dict[str, int]:
        """Return how many weights of each layer are chosen."""
        return {name: len(each) for name, each in self.indices.items()}

    def values(self, model: nn.Module) -> Tensor:
        """Return the chosen weights' values in `model`, float32 (D,) on the CPU."""
        parts = [
            weight_of(model, name).detach().flatten()[each.to(weight_of(model, name).device)].cpu()
            for name, each in self.indices.items()
        ]
        return torch.cat(parts) if parts else torch.empty(0)

    def split(self, values: Tensor) -> dict[str, Tensor]:
        """Return values (…, D) by layer, (…, count)."""
        sizes = [len(each) for each in self.indices.values()]
        return dict(zip(self.indices, torch.split(values, sizes, dim=-1), strict=True))


def weight_of(model: nn.Module, name: str) -> Tensor:
    """Return the weight of the layer `name` of `net_of(model)`."""
    weight = net_of(model).get_submodule(name).weight
    assert isinstance(weight, Tensor)
    return weight


def select(masks: Mapping[str, Tensor]) -> Selection:
    """Return the weights that are True in `masks`, bool tensors of the layers' weights' shapes."""
    found = {name: torch.nonzero(mask.flatten()).squeeze(1).cpu() for name, mask in masks.items()}
    return Selection({name: each for name, each in found.items() if len(each)})
