"""The families of architectures, each described on a card by an entry of plain JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from robustkit.errors import ModelError
from robustkit.models import foreign, zoo
from robustkit.models.blueprint import Blueprint, BlueprintNet
from robustkit.models.card import Card
from robustkit.models.fitting import make_fitting
from robustkit.models.initial import initialise

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Family:
    """How to make a net of a family, `make(entry, num_classes, in_channels, image_size)`.

    `mean` and `std` (red, green, blue) normalise its images where nobody says otherwise.
    """

    make: Callable[[Entry, int, int, int], nn.Module]
    mean: tuple[float, ...] = (0.5,) * 3
    std: tuple[float, ...] = (0.25,) * 3

    def statistics(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The default mean and std for images of so many channels."""
        if channels == len(self.mean):
            return self.mean, self.std
        mean, std = sum(self.mean) / len(self.mean), sum(self.std) / len(self.std)
        return (mean,) * channels, (std,) * channels


def make_net(card: Card) -> nn.Module:
    """The bare network on `card`, freshly initialised.

    Raises `ModelError` for an unknown family, name or option, and for images it cannot take.
    """
    family = card.architecture["family"]
    if family not in FAMILIES:
        raise ModelError(f"model card: unknown family '{family}' (known: {', '.join(FAMILIES)})")
    channels, size, _ = card.input_shape
    return FAMILIES[family].make(card.architecture, len(card.classes), channels, size)


def _from_zoo(entry: Entry, classes: int, channels: int, size: int) -> nn.Module:
    name, options = _get(entry, "name", str), _get(entry, "options", dict)
    maker = zoo.find(name, options)

    def make(size: int) -> nn.Module:
        return maker(classes, channels, size, **options)

    net = make_fitting(make, name, classes, channels, size)
    initialise(net)
    return net


def _from_blueprint(entry: Entry, classes: int, channels: int, size: int) -> nn.Module:
    blueprint = Blueprint.from_dict(_get(entry, "blueprint", dict))
    return BlueprintNet(blueprint, classes, channels, size)


def _from_torchvision(entry: Entry, classes: int, channels: int, size: int) -> nn.Module:
    return foreign.from_torchvision(_get(entry, "name", str), classes, channels, size)


def _from_factory(entry: Entry, classes: int, channels: int, size: int) -> nn.Module:
    return foreign.from_factory(_get(entry, "factory", str), classes, channels, size)


def _get(entry: Entry, name: str, kind: type) -> Any:
    if not isinstance(entry.get(name), kind):
        raise ModelError(f"model card: the architecture's entry '{name}' is missing or misshapen")
    return entry[name]


FAMILIES = {
    "zoo": Family(_from_zoo),
    "blueprint": Family(_from_blueprint),
    # What torchvision's published weights were trained with.
    "torchvision": Family(_from_torchvision, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    # A user's own network gets the images as they are: it may well normalise them itself.
    "factory": Family(_from_factory, (0.0,) * 3, (1.0,) * 3),
}
