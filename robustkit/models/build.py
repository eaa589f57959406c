"""From an architecture to a classifier with fresh weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from torch import nn

from robustkit.compute.seeds import isolated_rng
from robustkit.errors import ModelError
from robustkit.geometry import Size
from robustkit.models import zoo
from robustkit.models.blueprint import Blueprint, BlueprintNet
from robustkit.models.card import WRAPPED, Card
from robustkit.models.classifier import Classifier
from robustkit.models.fitting import make_fitting
from robustkit.models.layers import initialise
from robustkit.models.preprocessing import Preprocessing
from robustkit.models.sources.factory import FACTORY, make_factory, seen
from robustkit.models.sources.robustbench import make_robustbench
from robustkit.models.sources.timm import make_timm
from robustkit.models.sources.torchvision import make_torchvision
from robustkit.reading import Json

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Family:
    """How to make a net of a family, `make(entry, num_classes, in_channels, (height, width))`.

    `mean` and `std` (red, green, blue) normalise its images by default; None: it
    takes pictures as they are, for it may well normalise them itself.
    """

    make: Callable[[Entry, int, int, Size], nn.Module]
    mean: tuple[float, ...] | None = (0.5,) * 3
    std: tuple[float, ...] | None = (0.25,) * 3

    def statistics(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the default mean and std for images of so many channels; empty for none."""
        if self.mean is None or self.std is None:
            return (), ()
        if channels == len(self.mean):
            return self.mean, self.std
        mean, std = sum(self.mean) / len(self.mean), sum(self.std) / len(self.std)
        return (mean,) * channels, (std,) * channels


def make_net(card: Card) -> nn.Module:
    """Return the bare network on `card`, freshly initialised.

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


_DIGITS = 19  # those of 2**63: with fewer a number fits into any machine's


def build(
    architecture: str | Blueprint,
    *,
    num_classes: int,
    in_channels: int,
    image_size: int | Size,
    classes: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    seed: int | None = None,
    **options: Any,
) -> Classifier:
    """Return a fresh classifier for images of `image_size`, square or (height, width).

    `architecture` is a name of the zoo (which alone takes `options`, here or in the name, as in
    "vgg11?width=16&…"), a `Blueprint`, "torchvision:NAME" or "package.module:factory". `mean` and
    `std` are per channel, in [0,1] units; by default 0.5 and 0.25, for torchvision ImageNet's; a
    factory's net gets the images as they are. With a `seed` the weights depend on it alone and the
    global generators are left as they were; without, they come from the global generators. Raises
    `ModelError` for an unknown name or option, a factory that does not fit, and images too small
    for the network.

    >>> import torch
    >>> model = build("cnn3", num_classes=10, in_channels=1, image_size=16, seed=0)
    >>> tuple(model(torch.zeros(2, 1, 16, 16)).shape)
    (2, 10)
    >>> build("cnn2", num_classes=10, in_channels=1, image_size=16)
    Traceback (most recent call last):
    robustkit.errors.ModelError: unknown model 'cnn2'; did you mean ...
    """
    described = _describe(architecture, options)
    names = tuple(classes) if classes is not None else tuple(map(str, range(num_classes)))
    if len(names) != num_classes:
        raise ModelError(f"{num_classes} classes need as many names, not {len(names)}: {names}")
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    card = new_card(described, names, (in_channels, *size), mean, std)
    return rebuild(card, seed=seed)


def new_card(
    architecture: Mapping[str, Any],
    classes: Sequence[str],
    input_shape: tuple[int, int, int],
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Card:
    """Return the card of a net to be trained on images of `input_shape` (C,H,W).

    `mean` and `std` are the data's; by default those of the architecture's family. A factory's net
    gets the images as they are unless both are given.
    """
    usual_mean, usual_std = FAMILIES[architecture["family"]].statistics(input_shape[0])
    mean = tuple(mean) if mean is not None else usual_mean
    std = tuple(std) if std is not None else usual_std
    if not mean and not std:
        bare = Preprocessing(input_size=input_shape[1:], interpolation=None)
        return Card(
            architecture=architecture,
            classes=tuple(classes),
            input_shape=input_shape,
            preprocessing=bare,
        )
    return Card.trained_on(
        architecture=architecture, classes=classes, input_shape=input_shape, mean=mean, std=std
    )


def rebuild(card: Card, *, seed: int | None = None) -> Classifier:
    """Return a fresh classifier of the architecture on `card`; `seed` and errors as for `build`.

    The new card has neither the old one's provenance nor its parent.
    """
    bare = Card(
        architecture=card.architecture,
        classes=card.classes,
        input_shape=card.input_shape,
        preprocessing=card.preprocessing,
    )
    with isolated_rng(seed) if seed is not None else nullcontext():
        return Classifier(make_net(bare), bare)


def _describe(architecture: str | Blueprint, options: Mapping[str, Any]) -> Json:
    if isinstance(architecture, str) and ":" not in architecture:
        name, options = _with_options(architecture, options)
        return {"family": "zoo", "name": name, "options": options}
    if options:
        named = ", ".join(sorted(options))
        raise ModelError(f"only networks of the zoo take options, so not: {named}")
    if isinstance(architecture, Blueprint):
        return {"family": "blueprint", "blueprint": architecture.to_dict()}
    source, _, name = architecture.partition(":")
    if source == "torchvision":
        return {"family": "torchvision", "name": name}
    return {"family": "factory", "factory": architecture}


def _with_options(spec: str, options: Mapping[str, Any]) -> tuple[str, Json]:
    """Return the name in "name?option=number&…", and its options beside those given."""
    name, _, written = spec.partition("?")
    read: dict[str, int] = {}
    for part in written.split("&") if written else ():
        option, _, value = part.partition("=")
        if not (value.isascii() and value.isdigit() and len(value) < _DIGITS):
            raise ModelError(f"{spec}: expected NAME?OPTION=NUMBER, not '{part}' after the '?'")
        if option in read:
            raise ModelError(f"{spec}: option '{option}' is given twice")
        read[option] = int(value)
    return name, {**read, **options}
