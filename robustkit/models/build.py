"""From an architecture to a classifier with fresh weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from robustkit.compute.seeds import isolated_rng
from robustkit.errors import ModelError
from robustkit.geometry import Size
from robustkit.models.blueprint import Blueprint
from robustkit.models.card import Card
from robustkit.models.classifier import Classifier
from robustkit.models.families import FAMILIES, make_net
from robustkit.models.preprocessing import Preprocessing

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
    """A fresh classifier for images of `image_size`, square or (height, width).

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
    """The card of a net to be trained on images of `input_shape` (C,H,W).

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
    """A fresh classifier of the architecture on `card`; `seed` and errors as for `build`.

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


def _describe(architecture: str | Blueprint, options: dict[str, Any]) -> dict[str, Any]:
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


def _with_options(spec: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name in "name?option=number&…", and its options beside those given."""
    name, _, written = spec.partition("?")
    read: dict[str, Any] = {}
    for part in written.split("&") if written else ():
        option, _, value = part.partition("=")
        if not (value.isascii() and value.isdigit() and len(value) < _DIGITS):
            raise ModelError(f"{spec}: expected NAME?OPTION=NUMBER, not '{part}' after the '?'")
        if option in read:
            raise ModelError(f"{spec}: option '{option}' is given twice")
        read[option] = int(value)
    return name, read | options
