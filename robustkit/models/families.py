"""The families of architectures, each described on a card by an entry of plain JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from robustkit.errors import ModelError
from robustkit.geometry import Size
from robustkit.models import zoo
from robustkit.models.blueprint import Blueprint, BlueprintNet
from robustkit.models.card import WRAPPED, Card
from robustkit.models.fitting import make_fitting
from robustkit.models.initial import initialise
from robustkit.models.sources.factory import FACTORY, make_factory, seen
from robustkit.models.sources.robustbench import make_robustbench
from robustkit.models.sources.timm import make_timm
from robustkit.models.sources.torchvision import make_torchvision

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Family:
    """How to make a net of a family, `make(entry, num_classes, in_channels, (height, width))`.

    `mean` and `std` (red, green, blue) normalise its images where nobody says otherwise; None: it
    takes pictures as they are, for it may well normalise them itself.
    """

    make: Callable[[Entry, int, int, Size], nn.Module]
    mean: tuple[float, ...] | None = (0.5,) * 3
    std: tuple[float, ...] | None = (0.25,) * 3

    def statistics(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The default mean and std for images of so many channels; empty for none."""
        if self.mean is None or self.std is None:
            return (), ()
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
    if family == FACTORY:
        _get(card.architecture, "factory", str)
        return make_factory(card)
    channels, size = seen(card.preprocessing, card.input_shape)
    return FAMILIES[family].make(card.architecture, len(card.classes), channels, size)


def _from_zoo(entry: Entry, classes: int, channels: int, size: Size) -> nn.Module:
    name, options = _get(entry, "name", str), _get(entry, "options", dict)
    maker = zoo.find(name, options)
    _check_square(name, size)

    def make(size: Size) -> nn.Module:
        return maker(classes, channels, size[0], **options)

    net = make_fitting(make, name, classes, channels, size)
    initialise(net)
    return net


def _from_blueprint(entry: Entry, classes: int, channels: int, size: Size) -> nn.Module:
    blueprint = Blueprint.from_dict(_get(entry, "blueprint", dict))
    _check_square("a blueprint's net", size)
    return BlueprintNet(blueprint, classes, channels, size[0])


def _check_square(name: str, size: Size) -> None:
    if size[0] != size[1]:
        raise ModelError(f"{name}: takes square images, not {size[0]}x{size[1]}")


def _from_torchvision(entry: Entry, classes: int, channels: int, size: Size) -> nn.Module:
    options = _get(entry, "options", dict) if "options" in entry else {}
    return make_torchvision(_get(entry, "name", str), classes, channels, size, options)


def _from_timm(entry: Entry, classes: int, channels: int, size: Size) -> nn.Module:
    options = _get(entry, "options", dict) if "options" in entry else {}
    return make_timm(_get(entry, "name", str), classes, channels, size, options)


def _from_robustbench(entry: Entry, classes: int, channels: int, size: Size) -> nn.Module:
    name, dataset = _get(entry, "name", str), _get(entry, "dataset", str)
    return make_robustbench(name, dataset, _get(entry, "threat_model", str), classes, channels)


def _from_factory(entry: Entry, classes: int, channels: int, size: Size) -> nn.Module:
    raise NotImplementedError("a factory needs the whole card: see make_net")


def _wrapped(entry: Entry, classes: int, channels: int, size: Size) -> nn.Module:
    raise ModelError(
        "its module was made in Python and no card can build it again: name a function that makes "
        "it, package.module:factory?weights=FILE, or in Python give it: models.load(FILE, net=net)"
    )


def _get(entry: Entry, name: str, kind: type) -> Any:
    if not isinstance(entry.get(name), kind):
        raise ModelError(f"model card: the architecture's entry '{name}' is missing or misshapen")
    return entry[name]


FAMILIES = {
    "zoo": Family(_from_zoo),
    "blueprint": Family(_from_blueprint),
    # What torchvision's published weights were trained with.
    "torchvision": Family(_from_torchvision, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "timm": Family(_from_timm, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "robustbench": Family(_from_robustbench, None, None),
    "factory": Family(_from_factory, None, None),
    WRAPPED: Family(_wrapped, None, None),
}
