"""Detectors built from a name, fresh or on trained weights, and built again from their card."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from adaptation.detectors.backbone import (
    CHANNELS,
    RESIZED,
    Cut,
    check_made,
    check_order,
    cut,
    cut_again,
    take_weights,
    tapped,
)
from adaptation.detectors.detector import Detector
from adaptation.detectors.norms import BATCH
from adaptation.detectors.norms import NORMS as NORMS_OF_BACKBONES
from adaptation.detectors.pretrained import start_from
from adaptation.detectors.published import (
    BACKBONE,
    PUBLISHED,
    WEIGHTS,
    Start,
    check_published,
    published,
    statistics_of,
)
from adaptation.detectors.tiny import LEVELS, NORMS, TINY, TinyBackbone
from robustkit.compute.seeds import isolated_rng
from robustkit.errors import ModelError, did_you_mean
from robustkit.models import Classifier, files
from robustkit.models.card import Card
from robustkit.models.files import RUNS_CODE
from robustkit.models.weights import check_weights, fit_weights
from robustkit.reading import Json

FAMILY = "detector"
TORCHVISION = "torchvision:"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OPTIONS = ("norm", "width", "side", "fpn")


def build(
    spec: str,
    classes: Sequence[str],
    *,
    backbone: Classifier | Card | None = None,
    taps: Sequence[str] = (),
    seed: int | None = None,
    download: bool = False,
) -> Detector:
    """Return a detector of `classes`; weights that `spec` does not name are fresh.

    `spec` is tiny_ssd, tiny_fcos or tiny_fasterrcnn, with options as in
    "tiny_ssd?norm=batch&width=48&side=160&fpn=64", or "torchvision:NAME", trained on COCO as in
    "torchvision:ssd300_vgg16?weights=COCO_V1" (DEFAULT and the path of a state dict will do), or on
    a trained backbone as in "?weights_backbone=IMAGENET1K_V1": see `start_from`. A tiny one takes a
    classifier as `backbone`, with its weights (of its card alone, without), read at the blocks
    called `taps`; a grey one is given the mean of the channels. Its batch norms train on ("batch",
    the default), are "frozen", or become "group" norms, by `norm`. The detector normalises as the
    backbone does. With a `seed` all that is fresh depends on it alone; `notes` of the result say
    what was taken from where. Raises `ModelError` for names and options that are not there.
    """
    name, options = _split(spec)
    if isinstance(backbone, Classifier):
        check_order(backbone.card)
    if name.startswith(TORCHVISION) and options:
        return _started(spec, classes, backbone, taps, seed, download)
    if isinstance(backbone, Classifier) and backbone.card.architecture["family"] not in RESIZED:
        return _on_cut(spec, classes, backbone, taps, seed)
    card = backbone.card if isinstance(backbone, Classifier) else backbone
    architecture = _described(spec, card, taps)
    detector_card = _card(architecture, classes, card)
    detector = rebuild(detector_card, seed=seed, trust=code_of(architecture))
    if isinstance(backbone, Classifier):
        backbone_net: Any = detector.net.get_submodule("backbone")
        take_weights(getattr(backbone_net, "body", backbone_net), backbone)
    return detector


def _started(
    spec: str,
    classes: Sequence[str],
    backbone: object,
    taps: Sequence[str],
    seed: int | None,
    download: bool,
) -> Detector:
    """Return a published detector on trained weights."""
    name, options = _split(spec)
    if backbone is not None or taps:
        raise ModelError(f"'{name}' has a backbone of its own: it takes no other, and no taps")
    if len(options) > 1:
        raise ModelError(
            f"'{spec}': {WEIGHTS} and {BACKBONE} exclude each other: the former have a backbone"
        )
    ((source, weights),) = options.items()
    started = start_from(
        name.removeprefix(TORCHVISION), classes, source, weights, seed=seed, download=download
    )
    mean, std = statistics_of(started.net)
    architecture = {**_described(name), "start": started.start.to_dict()}
    card = _card(architecture, classes, statistics=(mean, std))
    notes = {"notes": list(started.notes)}
    return Detector(started.net, replace(card, provenance={**started.provenance, **notes}))


def _on_cut(
    spec: str, classes: Sequence[str], backbone: Classifier, taps: Sequence[str], seed: int | None
) -> Detector:
    """Return a tiny detector on a copy of the classifier's own net."""
    described = _described(spec)
    options = described["options"]
    _check_tiny(spec, options)
    backbone_cut = cut(backbone, taps, options.get("side", 128), LEVELS, options.get("norm", BATCH))
    architecture = described | backbone_cut.described()
    if backbone.card.input_shape[0] != 3:
        architecture["channels"] = backbone.card.input_shape[0]
    card = _card(architecture, classes, backbone.card)
    if backbone_cut.notes:
        card = replace(card, provenance={"notes": list(backbone_cut.notes)})
    _check_card(card)
    with isolated_rng(seed):
        return Detector(_net(architecture, card, backbone_cut), card)


def _card(
    architecture: Mapping[str, Any],
    classes: Sequence[str],
    backbone: Card | None = None,
    statistics: tuple[tuple[float, ...], tuple[float, ...]] = (MEAN, STD),
) -> Card:
    side = architecture["options"].get("side", 128)
    return Card.trained_on(
        architecture=architecture,
        classes=tuple(classes),
        input_shape=(3, side, side),
        mean=statistics[0] if backbone is None else _of_three(backbone.mean),
        std=statistics[1] if backbone is None else _of_three(backbone.std),
    )


def rebuild(card: Card, *, seed: int | None = None, trust: Collection[str] = ()) -> Detector:
    """Return a fresh detector of the architecture on `card`; errors as for `build`.

    A backbone that a user's function makes, "package.module:factory", is refused unless `trust`
    names that function, because it is run.
    """
    entry = card.architecture
    if entry.get("family") != FAMILY:
        raise ModelError(
            f"a classifier ({entry.get('family')}) where a detector is needed; it can be the "
            "backbone of one"
        )
    _check_card(card)
    for factory in code_of(entry):
        if not {factory, factory.partition("?")[0]} & set(trust):
            raise ModelError(
                f"its backbone is made by the function {factory}, which loading would run; if you "
                f"trust it: --trust {factory}"
            )
    with isolated_rng(seed):
        return Detector(_net(entry, card), card)


def outline(card: Card) -> nn.Module:
    """Return the net of a card without weights, on the meta device; errors as for `rebuild`."""
    _check_card(card)
    with isolated_rng(), torch.device("meta"):
        return _net(card.architecture, card)


def code_of(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the user's function that building the backbone would run, if there is one."""
    backbone = entry.get("backbone")
    if not isinstance(backbone, Mapping) or backbone.get("family") not in RUNS_CODE:
        return ()
    return (str(backbone.get("factory")),)


def _check_card(card: Card) -> None:
    """Raise `ModelError` for a card that `build` could not have written."""
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
    if "made" in entry:
        check_made(entry["made"])
    if "start" in entry:
        if not name.startswith(TORCHVISION):
            raise ModelError(f"a detector's card of '{name}' with a start")
        Start.from_dict(entry["start"])
    channels = entry.get("channels", 3)
    if type(channels) is not int or channels not in CHANNELS:
        raise ModelError(f"a detector's card with a backbone of {channels} channels")


def _of_three(statistics: Sequence[float]) -> tuple[float, ...]:
    """Return the statistics of three channels; those of a grey backbone are repeated."""
    return tuple(statistics) * (3 if len(statistics) == 1 else 1)


def _net(entry: Mapping[str, Any], card: Card, backbone_cut: Cut | None = None) -> nn.Module:
    name, options = entry["name"], entry["options"]
    if name.startswith(TORCHVISION):
        called, classes = name.removeprefix(TORCHVISION), len(card.classes)
        if "start" not in entry:
            return published(called, classes)
        return published(called, classes, Start.from_dict(entry["start"]), (card.mean, card.std))
    side = card.input_shape[1]
    body: nn.Module
    if backbone_cut is not None:
        body = backbone_cut.body(side, LEVELS)
    elif entry.get("backbone") is None:
        norm = options.get("norm", "group")
        if norm not in NORMS:
            raise ModelError(
                f"norm={norm} is of a backbone's trained norms; a fresh detector's are "
                f"{' or '.join(NORMS)}"
            )
        body = TinyBackbone(options.get("width", 32), norm)
    elif "made" in entry:
        body = cut_again(entry, card, side, LEVELS, options.get("norm", BATCH))
    else:
        channels = entry.get("channels", 3)
        backbone_card = Card.trained_on(
            architecture=entry["backbone"],
            classes=("0", "1"),
            input_shape=(channels, side, side),
            mean=card.mean[:channels],
            std=card.std[:channels],
        )
        body, _ = tapped(backbone_card, entry["taps"], side, LEVELS, options.get("norm", BATCH))
    mean, std = list(card.mean), list(card.std)
    return TINY[name](body, len(card.classes), side, mean, std, options.get("fpn"))


def _described(spec: str, backbone: Card | None = None, taps: Sequence[str] = ()) -> Json:
    name, options = _split(spec)
    if name.startswith(TORCHVISION):
        if backbone is not None:
            raise ModelError(f"'{name}' takes neither options nor a backbone")
        check_published(name.removeprefix(TORCHVISION))
        return {"family": FAMILY, "name": name, "options": {}}
    if name not in TINY:
        known = [*TINY, *(TORCHVISION + published_name for published_name in PUBLISHED)]
        raise ModelError(f"unknown detector '{name}'{did_you_mean(name, known)}")
    described: Json = {"family": FAMILY, "name": name, "options": options}
    if backbone is not None:
        _check_tiny(spec, options)
        side, norm = options.get("side", 128), options.get("norm", BATCH)
        _, chosen = tapped(backbone, taps, side, LEVELS, norm)
        described |= {"backbone": dict(backbone.architecture), "taps": chosen}
        if backbone.input_shape[0] != 3:
            described["channels"] = backbone.input_shape[0]
    return described


def _check_tiny(spec: str, options: Mapping[str, Any]) -> None:
    if spec.startswith(TORCHVISION):
        raise ModelError(f"'{spec}' takes neither options nor a backbone")
    if "width" in options:
        raise ModelError(f"'{spec}': a backbone has its own width")


def _split(spec: str) -> tuple[str, Json]:
    name, _, written = spec.partition("?")
    if name.startswith(TORCHVISION):
        return name, _starts(spec, written)
    options: Json = {}
    for part in filter(None, written.split("&")):
        key, _, value = part.partition("=")
        if key not in OPTIONS:
            raise ModelError(f"'{spec}': unknown option '{key}'{did_you_mean(key, OPTIONS)}")
        if key in options:
            raise ModelError(f"'{spec}': option '{key}' twice")
        if key == "norm":
            if value not in NORMS_OF_BACKBONES:
                hint = did_you_mean(value, NORMS_OF_BACKBONES)
                raise ModelError(f"'{spec}': unknown norm '{value}'{hint}")
            options[key] = value
            continue
        if not value.isdecimal() or len(value) > 9:
            raise ModelError(f"'{spec}': {key} must be a whole number, not '{value}'")
        options[key] = int(value)
    for wide in ("width", "fpn"):
        if options.get(wide, 16) % 16 or not 16 <= options.get(wide, 16) <= 512:
            raise ModelError(f"'{spec}': {wide} must be a multiple of 16 up to 512")
    if options.get("side", 96) % 32 or not 64 <= options.get("side", 96) <= 512:
        raise ModelError(f"'{spec}': side must be a multiple of 32 from 64 to 512")
    return name, options


def _starts(spec: str, written: str) -> dict[str, str]:
    """Return the options of a published detector: the weights it starts from."""
    options: dict[str, str] = {}
    for part in filter(None, written.split("&")):
        key, _, value = part.partition("=")
        if key not in (WEIGHTS, BACKBONE):
            hint = did_you_mean(key, (WEIGHTS, BACKBONE))
            raise ModelError(f"'{spec}': unknown option '{key}'{hint}")
        if key in options:
            raise ModelError(f"'{spec}': option '{key}' twice")
        if not value:
            raise ModelError(f"'{spec}': {key}: expected a name such as DEFAULT, or a file")
        options[key] = value
    return options


save, digest = files.save, files.digest


def load(path: Path | str, *, trust: Collection[str] = ()) -> Detector:
    """Return the detector in the file `path`, in evaluation mode and on the CPU.

    One whose backbone a user's function makes is refused unless `trust` names that function,
    "package.module:factory", because it is run. Raises `ModelError`, naming the file, when it
    is missing, damaged or holds a classifier.
    """
    card, tensors = files.read(path)
    if card.architecture["family"] != FAMILY:
        raise ModelError(
            f"{path}: holds a classifier where a detector is needed; as a backbone it can be given "
            "to --backbone"
        )
    try:
        if card.architecture.get("backbone") is None:
            # Described first, without memory: a card may ask for a net of any number of classes.
            check_weights(outline(card), tensors, path)
        model = rebuild(card, seed=0, trust=trust)
    except ModelError as error:
        raise ModelError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise ModelError(f"{path}: its card describes no detector ({error})") from error
    fit_weights(model.net, tensors, path)
    return model.eval()


def runs_code(path: Path | str) -> tuple[str, ...]:
    """Return the user's functions that loading the detector in the file `path` would run.

    Raises `ModelError` as `load`, without running anything.
    """
    return code_of(files.read_card(path).architecture)
