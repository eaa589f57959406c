"""From an architecture to a classifier: zoo names, blueprints, and the cards of other models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from torch import nn

from robustkit.compute.seeds import isolated_rng
from robustkit.errors import ModelError
from robustkit.models.blueprint import Blueprint, BlueprintNet
from robustkit.models.card import Card
from robustkit.models.classifier import Classifier
from robustkit.models.initial import initialise
from robustkit.models.zoo import find

MEAN, STD = 0.5, 0.25


def build(
    architecture: str | Blueprint,
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    classes: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    seed: int | None = None,
    **options: Any,
) -> Classifier:
    """A fresh classifier: a network of the zoo by name (with its `options`), or a blueprint.

    `mean` and `std` are per channel, in [0,1] units; without them pixels are normalised by 0.5 and
    0.25. With a `seed` the initial weights depend on it alone and the global generators are left
    as they were; without, they come from the global generator. Raises `ModelError` for an unknown
    name or option, and for images too small for the network.
    """
    if isinstance(architecture, Blueprint):
        if options:
            raise ModelError(f"a blueprint takes no options, not {', '.join(sorted(options))}")
        described: dict[str, Any] = {"family": "blueprint", "blueprint": architecture.to_dict()}
    else:
        described = {"family": "zoo", "name": architecture, "options": options}
    names = tuple(classes) if classes is not None else tuple(map(str, range(num_classes)))
    if len(names) != num_classes:
        raise ModelError(f"{num_classes} classes need as many names, not {len(names)}: {names}")
    card = Card(
        architecture=described,
        classes=names,
        input_shape=(in_channels, image_size, image_size),
        mean=tuple(mean) if mean is not None else (MEAN,) * in_channels,
        std=tuple(std) if std is not None else (STD,) * in_channels,
    )
    return rebuild(card, seed=seed)


def rebuild(card: Card, *, seed: int | None = None) -> Classifier:
    """A fresh classifier of the architecture on `card`, weights as in `build`."""
    with isolated_rng(seed) if seed is not None else nullcontext():
        return Classifier(make_net(card), card)


def make_net(card: Card) -> nn.Module:
    """The bare network on `card`, freshly initialised; raises `ModelError` if it cannot be."""
    family = card.architecture["family"]
    if family not in FAMILIES:
        raise ModelError(f"model card: unknown family '{family}' (known: {', '.join(FAMILIES)})")
    channels, size, _ = card.input_shape
    return FAMILIES[family](card.architecture, len(card.classes), channels, size)


def _from_zoo(entry: Mapping[str, Any], classes: int, channels: int, size: int) -> nn.Module:
    net = find(entry["name"], entry["options"])(classes, channels, size, **entry["options"])
    initialise(net)
    return net


def _from_blueprint(entry: Mapping[str, Any], classes: int, channels: int, size: int) -> nn.Module:
    return BlueprintNet(Blueprint.from_dict(entry["blueprint"]), classes, channels, size)


FAMILIES: dict[str, Callable[[Mapping[str, Any], int, int, int], nn.Module]] = {
    "zoo": _from_zoo,
    "blueprint": _from_blueprint,
}
