"""What a user may name as a model, wherever one is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from robustkit.class_names import numbered
from robustkit.compute.seeds import isolated_rng
from robustkit.errors import ModelError
from robustkit.geometry import Size
from robustkit.models.build import build
from robustkit.models.card import Card
from robustkit.models.classifier import Classifier
from robustkit.models.defences import SEPARATOR, defended
from robustkit.models.files import load_file
from robustkit.models.preprocessing import Preprocessing
from robustkit.models.sources.base import SOURCES, Request, SourceNet, Spec
from robustkit.models.sources.factory import FACTORY, takes
from robustkit.models.weights import fit_weights, read_weights
from robustkit.reading import Json
from robustkit.specs import split_options

FILE, ZOO_NAME = "file", "zoo"
SUFFIX = ".safetensors"
# Options about preprocessing that any source takes, unless it has one of that name itself.
PREPROCESSING = ("mean", "std", "input_size", "interpolation", "channel_order")


def parse(text: str) -> Spec:
    """Return the parts of a spec; raises `ModelError` for options that are none or stand twice.

    >>> parse("torchvision:resnet50?weights=DEFAULT").options
    {'weights': 'DEFAULT'}
    >>> parse("my_nets.resnet:make?width=16").scheme
    'factory'
    """
    if text.startswith(SEPARATOR):
        raise ModelError(f"'{text}': a model is missing before the '|'")
    text = text.partition(SEPARATOR)[0]  # defences are no part of the model
    if is_file(text):
        return Spec(text, FILE, text, {})
    whole, options = split_options(text, ModelError)
    scheme, colon, name = whole.partition(":")
    if not colon and whole.endswith(".py"):
        raise ModelError(f"{text}: which function of it? write {whole}:FUNCTION")
    if not colon:
        scheme, name = ZOO_NAME, whole
    elif scheme not in SOURCES or scheme == FACTORY:
        scheme, name = FACTORY, whole
    if not name:
        raise ModelError(f"'{text}': a name is missing behind {scheme}:")
    return Spec(text, scheme, name, options)


def is_untrained(spec: str | Spec) -> bool:
    """Return whether a spec names an architecture without weights: zoo, torchvision or timm.

    For a user's function this is unknown before it is called. Raises `ModelError` as `parse` does.
    """
    if isinstance(spec, str):
        spec = parse(spec)
    if spec.options.get("weights", "none") != "none":
        return False
    if spec.scheme == "timm":
        return spec.options.get("pretrained", "false").lower() == "false"
    if spec.scheme == "torchvision":  # which says what it thinks of other options
        return not spec.options.keys() - {"weights", *PREPROCESSING}
    return spec.scheme == ZOO_NAME


def is_file(text: str) -> bool:
    """Return whether a spec is the path of a model file, and not a name with options."""
    return text.endswith(SUFFIX) and ("?" not in text or Path(text).exists())


def resolve(
    spec: str,
    *,
    num_classes: int,
    in_channels: int,
    image_size: int | Size,
    classes: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    weights: Path | str | None = None,
    seed: int | None = None,
    download: bool = False,
    trust: Sequence[str] = (),
) -> Classifier:
    """Return the classifier that `spec` names, to be trained on images (in_channels, *image_size).

    `spec` is the path of a model file (`.safetensors`), a name of the zoo, "torchvision:NAME",
    "timm:NAME", "robustbench:NAME", "package.module:factory" or "FILE.py:factory", with options
    behind a "?"; all but the file may be given `weights` (or `?weights=FILE`): a state dict, or
    another model file of the same architecture. `mean` and `std` are the data's, for nets without
    a preprocessing of their own. A net with weights of other classes gets a new head, and its
    `notes` say so. Raises `ModelError` as `build` and `load` do, and when the model's classes or
    input do not fit.
    """
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    shape = (in_channels, *size)
    if SEPARATOR in spec:
        raise ModelError(f"{spec}: a model is trained without its defences; leave out the '|'")
    parsed = parse(spec)
    if parsed.scheme == FILE:
        if weights is not None:
            raise ModelError(f"{spec}: a model file has its own weights; leave out {weights}")
        return load_file(spec, num_classes=num_classes, input_shape=shape, trust=trust)
    parsed = _weighted(parsed, weights)
    names = tuple(classes) if classes is not None else numbered(num_classes)
    if parsed.scheme == ZOO_NAME:
        return _of_zoo(parsed, names, shape, mean, std, seed)
    request = Request(parsed, names, num_classes, shape, download)
    statistics = None if mean is None or std is None else (tuple(mean), tuple(std))
    opened = _open(request, seed, statistics)
    return _classifier(request, opened, names, statistics)


def load(
    spec: Path | str,
    *,
    num_classes: int | None = None,
    input_shape: Sequence[int] | None = None,
    classes: Sequence[str] | None = None,
    weights: Path | str | None = None,
    download: bool = False,
    trust: Sequence[str] = (),
    allow_code: bool = False,
    net: torch.nn.Module | None = None,
) -> Classifier:
    """Return the trained model that `spec` names, in evaluation mode and on the CPU.

    `spec` is a model file or a name that brings its weights, as for `resolve`. Published weights
    are fetched only with `download`. A file whose net is made by a user's function is refused
    unless that function, "package.module:factory", is among `trust` (or `allow_code`), because
    loading runs it; the file of a module wrapped in Python needs that module: `net`.
    Behind a "|" stand defences that pictures meet first, as in "model.safetensors|jpeg?quality=50".
    `num_classes`, `input_shape` (C,H,W) and `classes` are what the data has, for files to be
    checked against and for functions that are called with them; `weights` is a state dict for a
    name without any. Raises `ModelError`.
    """
    parsed = None if isinstance(spec, Path) else parse(spec)
    if isinstance(spec, str) and SEPARATOR in spec:
        spec, *chain = spec.split(SEPARATOR)
        bare = load(
            spec,
            num_classes=num_classes,
            input_shape=input_shape,
            classes=classes,
            weights=weights,
            download=download,
            trust=trust,
            allow_code=allow_code,
            net=net,
        )
        return defended(bare, chain)
    if parsed is None or parsed.scheme == FILE or net is not None:
        if weights is not None:
            raise ModelError(f"{spec}: a model file has its own weights; leave out {weights}")
        return load_file(
            spec,
            num_classes=num_classes,
            input_shape=input_shape,
            trust=trust,
            allow_code=allow_code,
            net=net,
        )
    parsed = _weighted(parsed, weights)
    shape: Any = None if input_shape is None else tuple(input_shape)
    if classes is not None:
        num_classes = len(classes)
    names = tuple(classes) if classes is not None else None
    _refuse_untrained(spec, parsed, data_known=num_classes is not None and shape is not None)
    request = Request(parsed, None, num_classes, shape, download)
    opened = _open(request, 0)
    return _classifier(request, opened, names, None).eval()


def _refuse_untrained(spec: Path | str, parsed: Spec, *, data_known: bool) -> None:
    """Raise `ModelError` for a name without weights, and for a zoo net, whatever its weights."""
    if parsed.scheme == ZOO_NAME:
        if "weights" not in parsed.options or not data_known:
            raise ModelError(
                f"{spec}: untrained; give a trained model's file, or weights and the data they are "
                "for: NAME?weights=FILE"
            )
        raise ModelError(
            f"{spec}: a net of the zoo normalises by its data's statistics, which its weights do "
            "not tell: models.resolve(…, mean=…, std=…), or load a model file"
        )
    if is_untrained(parsed):
        example = "pretrained=true" if parsed.scheme == "timm" else "weights=DEFAULT"
        raise ModelError(
            f"{spec}: untrained; give a trained model's file, or weights: {parsed.scheme}:"
            f"{parsed.name}?{example}"
        )


def _weighted(spec: Spec, weights: Path | str | None) -> Spec:
    """Return the spec with `weights` as its option; raises `ModelError` if it has some."""
    if weights is None:
        return spec
    if "weights" in spec.options:
        raise ModelError(f"{spec.text}: names its weights already; leave out {weights}")
    return replace(spec, options={**spec.options, "weights": str(weights)})


Statistics = tuple[tuple[float, ...], tuple[float, ...]] | None


def _open(request: Request, seed: int | None, statistics: Statistics = None) -> SourceNet:
    """Return what the source opens, with the options about preprocessing applied.

    A net without a preprocessing of its own keeps the data's `statistics` beside such options.
    """
    spec = request.spec
    with isolated_rng(seed) if seed is not None else nullcontext():
        given = {name: spec.options[name] for name in PREPROCESSING if name in spec.options}
        if spec.scheme == FACTORY:  # what its function has a parameter for is the function's
            given = {name: text for name, text in given.items() if not takes(spec.name, name)}
        rest = {name: value for name, value in spec.options.items() if name not in given}
        opened = SOURCES.find(spec.scheme)(replace(request, spec=replace(spec, options=rest)))
    if not given:
        return opened
    preprocessing = opened.preprocessing
    if preprocessing is None:
        mean, std = statistics or ((), ())
        preprocessing = Preprocessing(mean=mean, std=std)
    changed = replace(preprocessing, **_preprocessing(spec, given))
    if changed.geometry is not None and changed.input_size not in (None, changed.geometry.size):
        changed = replace(changed, geometry=None)  # which led to another size
    return replace(opened, preprocessing=changed)


def _classifier(
    request: Request,
    opened: SourceNet,
    names: tuple[str, ...] | None,
    statistics: Statistics,
) -> Classifier:
    count = opened.num_classes or request.num_classes
    classes = opened.classes or names or (numbered(count) if count else ())
    # Pictures may show some of a model's classes alone: those are found by their names.
    is_subset = names is not None and set(names) <= set(opened.classes or ())
    if count is not None and names is not None and len(names) != count and not is_subset:
        raise ModelError(f"{request.spec.text}: has {count} classes, the data {len(names)}")
    preprocessing = opened.preprocessing
    shape = request.shape
    if preprocessing is None:
        from robustkit.models.build import FAMILIES

        shape = request.wanted_shape()
        usual = FAMILIES[opened.architecture["family"]].statistics(shape[0])
        mean, std = statistics or usual
        card = Card.trained_on(
            architecture=opened.architecture, classes=classes, input_shape=shape, mean=mean, std=std
        )
    else:
        if shape is None:
            channels = len(preprocessing.mean) or 3
            shape = (channels, *(preprocessing.input_size or (224, 224)))
        card = Card(
            architecture=opened.architecture,
            classes=classes,
            input_shape=shape,
            preprocessing=preprocessing,
        )
    provenance: Json = {"source": request.spec.text, **opened.provenance}
    if opened.published is not None and request.classes is None:  # training makes it untrue
        provenance["published"] = dict(opened.published)
    if not opened.trained:
        provenance = {}
    return Classifier(opened.net, replace(card, provenance=provenance), notes=opened.notes)


def _of_zoo(
    spec: Spec,
    classes: tuple[str, ...],
    shape: tuple[int, int, int],
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    seed: int | None,
) -> Classifier:
    options = {name: value for name, value in spec.options.items() if name != "weights"}
    written = "&".join(f"{name}={value}" for name, value in options.items())
    model = build(
        f"{spec.name}?{written}" if written else spec.name,
        num_classes=len(classes),
        in_channels=shape[0],
        image_size=shape[1:],
        classes=classes,
        mean=mean,
        std=std,
        seed=seed,
    )
    file = spec.options.get("weights")
    if file is not None:
        fit_weights(model.net, read_weights(file), file)
    return model


def _preprocessing(spec: Spec, given: Mapping[str, str]) -> Mapping[str, Any]:
    """Return the options about preprocessing, read."""
    read: Json = {}
    for name, text in given.items():
        try:
            if name in ("mean", "std"):
                read[name] = tuple(float(part) for part in text.split(","))
            elif name == "input_size":
                sides = [] if text == "none" else [int(part) for part in text.split("x")]
                read[name] = tuple(sides * 2 if len(sides) == 1 else sides) or None
            else:
                read[name] = text
        except ValueError:
            raise ModelError(f"{spec.text}: {name}={text}: expected numbers") from None
    if ("mean" in read) != ("std" in read):
        raise ModelError(f"{spec.text}: mean and std are given together")
    try:
        Preprocessing(**read)
    except ModelError as error:
        raise ModelError(f"{spec.text}: {error}") from None
    return read
