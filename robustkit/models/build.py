"""From an architecture to a classifier with fresh weights."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from robustkit.compute.seeds import isolated_rng
from robustkit.errors import ModelError
from robustkit.models.blueprint import Blueprint
from robustkit.models.card import Card
from robustkit.models.classifier import Classifier
from robustkit.models.families import FAMILIES, make_net

_DIGITS = 19  # those of 2**63: with fewer a number fits into any machine's


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
    """A fresh classifier for square images.

    `architecture` is a name of the zoo (which alone takes `options`, here or in the name, as in
    "vgg11?width=16&…"), a `Blueprint`, "torchvision:NAME" or "package.module:factory". `mean` and
    `std` are per channel, in [0,1] units; by default 0.5 and 0.25, for torchvision ImageNet's, and
    for a factory 0 and 1. With a `seed` the weights depend on it alone and the global generators
    are left as they were; without, they come from the global generators. Raises `ModelError` for an
    unknown name or option, a factory that does not fit, and images too small for the network.

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
    usual_mean, usual_std = FAMILIES[described["family"]].statistics(in_channels)
    card = Card(
        architecture=described,
        classes=names,
        input_shape=(in_channels, image_size, image_size),
        mean=tuple(mean) if mean is not None else usual_mean,
        std=tuple(std) if std is not None else usual_std,
    )
    return rebuild(card, seed=seed)


def rebuild(card: Card, *, seed: int | None = None) -> Classifier:
    """A fresh classifier of the architecture on `card`; `seed` and errors as for `build`.

    The new card has neither the old one's provenance nor its parent.
    """
    bare = Card(
        architecture=card.architecture,
        classes=card.classes,
        input_shape=card.input_shape,
        mean=card.mean,
        std=card.std,
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
