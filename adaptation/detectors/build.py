"""From a name to a detector with fresh weights, and from a card to the same one again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from adaptation.detectors.backbone import CHANNELS, tapped
from adaptation.detectors.detector import Detector
from adaptation.detectors.published import PUBLISHED, published
from adaptation.detectors.tiny import LEVELS, NORMS, TINY, TinyBackbone
from robustkit.compute.seeds import isolated_rng
from robustkit.errors import ModelError, did_you_mean
from robustkit.models.card import Card

FAMILY = "detector"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OPTIONS = ("norm", "width", "side")


def build(
    spec: str,
    classes: Sequence[str],
    *,
    backbone: Card | None = None,
    taps: Sequence[str] = (),
    seed: int | None = None,
) -> Detector:
    """A detector of `classes` with fresh weights.

    `spec` is tiny_ssd, tiny_fcos or tiny_fasterrcnn, with options as in
    "tiny_ssd?norm=batch&width=48&side=160", or "torchvision:NAME". A tiny one takes the card of a
    classifier as `backbone`, read at the blocks called `taps`; a grey one is given the mean of the
    channels. With a `seed` the weights depend on
    it alone. Raises `ModelError` for names and options that are not there.
    """
    architecture = _described(spec, backbone, taps)
    options = architecture["options"]
    card = Card.trained_on(
        architecture=architecture,
        classes=tuple(classes),
        input_shape=(3, options.get("side", 128), options.get("side", 128)),
        mean=MEAN if backbone is None else _of_three(backbone.mean),
        std=STD if backbone is None else _of_three(backbone.std),
    )
    return rebuild(card, seed=seed)


def rebuild(card: Card, *, seed: int | None = None) -> Detector:
    """A fresh detector of the architecture on `card`; errors as for `build`."""
    entry = card.architecture
    if entry.get("family") != FAMILY:
        raise ModelError(
            f"a classifier ({entry.get('family')}) where a detector is needed; it can be the "
            "backbone of one"
        )
    _check_card(card)
    with isolated_rng(seed):
        return Detector(_net(entry, card), card)


def _check_card(card: Card) -> None:
    """What was written by anybody is held to the rules of what `build` takes."""
    entry = card.architecture
    name, options = entry.get("name"), entry.get("options")
    if not isinstance(name, str) or not isinstance(options, dict):
        raise ModelError("a detector's card tells its name and options")
    described = _described("?".join([name, "&".join(f"{k}={v}" for k, v in options.items())]))
    if described["options"] != options:
        raise ModelError(f"a detector's card with options of no use: {options}")
    side = options.get("side", 128)
    if card.input_shape != (3, side, side):
        raise ModelError(f"a detector's card with images {card.input_shape}, not {(3, side, side)}")
    if len(set(card.classes)) < len(card.classes):
        raise ModelError(f"a detector's card with a class twice: {', '.join(card.classes)}")
    backbone = entry.get("backbone")
    if backbone is not None and not (
        isinstance(backbone, dict) and isinstance(entry.get("taps"), list | tuple)
    ):
        raise ModelError("a detector's card whose backbone is none")
    channels = entry.get("channels", 3)
    if type(channels) is not int or channels not in CHANNELS:
        raise ModelError(f"a detector's card with a backbone of {channels} channels")


def _of_three(statistics: Sequence[float]) -> tuple[float, ...]:
    """Of a grey backbone's one channel, what normalises all three alike."""
    return tuple(statistics) * (3 if len(statistics) == 1 else 1)


def _net(entry: Mapping[str, Any], card: Card) -> nn.Module:
    name, options = entry["name"], entry["options"]
    if name.startswith("torchvision:"):
        return published(name.removeprefix("torchvision:"), len(card.classes))
    side = card.input_shape[1]
    body: nn.Module
    if entry.get("backbone") is None:
        body = TinyBackbone(options.get("width", 32), options.get("norm", "group"))
    else:
        channels = entry.get("channels", 3)
        told = Card.trained_on(
            architecture=entry["backbone"],
            classes=("0", "1"),
            input_shape=(channels, side, side),
            mean=card.mean[:channels],
            std=card.std[:channels],
        )
        body, _ = tapped(told, entry["taps"], side, LEVELS)
    return TINY[name](body, len(card.classes), side, list(card.mean), list(card.std))


def _described(spec: str, backbone: Card | None = None, taps: Sequence[str] = ()) -> dict[str, Any]:
    name, options = _split(spec)
    if name.startswith("torchvision:"):
        if options or backbone is not None:
            raise ModelError(f"'{name}' takes neither options nor a backbone")
        if name.removeprefix("torchvision:") not in PUBLISHED:
            near = did_you_mean(name.removeprefix("torchvision:"), PUBLISHED)
            raise ModelError(f"no detector '{name}'{near}")
        return {"family": FAMILY, "name": name, "options": {}}
    if name not in TINY:
        known = [*TINY, *(f"torchvision:{each}" for each in PUBLISHED)]
        raise ModelError(f"unknown detector '{name}'{did_you_mean(name, known)}")
    described: dict[str, Any] = {"family": FAMILY, "name": name, "options": options}
    if backbone is not None:
        if {"norm", "width"} & options.keys():
            raise ModelError(f"'{spec}': a backbone has its own norm and width")
        _, chosen = tapped(backbone, taps, options.get("side", 128), LEVELS)
        described |= {"backbone": dict(backbone.architecture), "taps": chosen}
        if backbone.input_shape[0] != 3:
            described["channels"] = backbone.input_shape[0]
    return described


def _split(spec: str) -> tuple[str, dict[str, Any]]:
    name, _, written = spec.partition("?")
    options: dict[str, Any] = {}
    for part in filter(None, written.split("&")):
        key, _, value = part.partition("=")
        if key not in OPTIONS:
            raise ModelError(f"'{spec}': unknown option '{key}'{did_you_mean(key, OPTIONS)}")
        if key in options:
            raise ModelError(f"'{spec}': option '{key}' twice")
        if key == "norm":
            if value not in NORMS:
                raise ModelError(f"'{spec}': unknown norm '{value}'{did_you_mean(value, NORMS)}")
            options[key] = value
            continue
        if not value.isdecimal() or len(value) > 9:
            raise ModelError(f"'{spec}': {key} must be a whole number, not '{value}'")
        options[key] = int(value)
    if options.get("width", 16) % 16 or not 16 <= options.get("width", 16) <= 512:
        raise ModelError(f"'{spec}': width must be a multiple of 16 up to 512")
    if options.get("side", 96) % 32 or not 64 <= options.get("side", 96) <= 512:
        raise ModelError(f"'{spec}': side must be a multiple of 32 from 64 to 512")
    return name, options
