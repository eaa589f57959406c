"""The inputs of an evaluation: models and images in one pixel space, loaded and checked."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from robustkit import evaluation, models
from robustkit.attacks import Store, predict
from robustkit.attacks.predictions import PredictionCache
from robustkit.class_names import distinct
from robustkit.cli.models import fit_to_images
from robustkit.compute import on_device
from robustkit.data import EvaluationSet, ImageSet, channel_stats, load, open_evaluation
from robustkit.errors import ConfigError, DataError, ModelError
from robustkit.geometry import Geometry
from robustkit.jobs import Log
from robustkit.models import ZOO, Classifier
from robustkit.models.classifier import plain
from robustkit.models.resolve import is_untrained, parse
from robustkit.report import format_estimate
from robustkit.runs.summaries import Finding, ModelDescription, PixelSpace, Published, SavedGeometry
from robustkit.stats import KnownRate, wilson

KEPT_BYTES = 2**28  # of weights in memory; beyond, models are loaded again when they are used
_PROBED_IMAGES = 8  # shown to every model before anything is evaluated

_Loader = Callable[[tuple[str, ...] | None, tuple[int, int, int] | None], Classifier]


class LazyModels(Mapping[str, Classifier]):
    """Models by name, loaded when they are asked for.

    Those asked for last stay in memory while their weights take at most `kept` bytes together, so
    that memory does not grow with their number.
    """

    def __init__(
        self, loaders: Mapping[str, Callable[[], Classifier]], *, kept: int = KEPT_BYTES
    ) -> None:
        self._loaders, self._kept = dict(loaders), kept
        self._loaded: OrderedDict[str, Classifier] = OrderedDict()

    def __getitem__(self, name: str) -> Classifier:
        if name not in self._loaded:
            self._loaded[name] = self._loaders[name]()
        self._loaded.move_to_end(name)
        while len(self._loaded) > 1 and sum(map(_size, self._loaded.values())) > self._kept:
            self._loaded.popitem(last=False)
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaders)

    def __len__(self) -> int:
        return len(self._loaders)

    def only(self, names: Sequence[str]) -> LazyModels:
        """Return those of the models, by the same loaders."""
        return LazyModels({name: self._loaders[name] for name in names}, kept=self._kept)


@dataclass(frozen=True, eq=False)
class LoadedModels:
    """The images and models of an evaluation, all in one pixel space.

    `geometry` is how images were resized and cropped, None where they are as stored; `whose` tells
    what decided it. `indices` int64 (N,) are the images' positions in the `split`.
    """

    images: ImageSet
    nets: LazyModels
    split: str
    indices: torch.Tensor
    geometry: Geometry | None
    whose: str
    notes: tuple[str, ...]
    descriptions: Mapping[str, ModelDescription]

    def read(self, opened: EvaluationSet) -> ImageSet:
        """Return other images in the same pixel space, with the same classes."""
        channels = 3 if self.images.shape[0] == 3 else None
        return opened.read(geometry=self.geometry, channels=channels, classes=self.images.classes)

    def pixel_space(self) -> PixelSpace:
        """Return the pixel space for a summary."""
        geometry = None
        if self.geometry is not None:
            geometry = SavedGeometry.from_json(self.geometry.to_dict(), "geometry")
        return PixelSpace(
            shape=list(self.images.shape),
            geometry=geometry,
            whose=self.whose,
            split=self.split,
            notes=list(self.notes),
            models=dict(self.descriptions),
        )

    def lines(self) -> Iterator[str]:
        """Yield lines on the pixel space, and the notes on every model."""
        channels, height, width = self.images.shape
        how = "as stored" if self.geometry is None else self.geometry.describe()
        yield f"pixel space: {channels}x{height}x{width}, {how} ({self.whose})"
        yield from self.notes
        for name, description in self.descriptions.items():
            for note in description.notes:
                yield f"{name}: {note}"


def load_models(
    settings: Mapping[str, Any],
    specs: Mapping[str, str],
    opened: EvaluationSet | None = None,
    *,
    stretch: bool = True,
) -> LoadedModels:
    """Return the models that `specs` name and the images of the options, ready to be evaluated.

    Every model is loaded once, one after the other, and checked. Without `stretch`, images of
    another size are refused for models that do not resize them. Raises `ModelError` for a model
    that is untrained, trained on other classes, or gives no logits, and as `models.load` does;
    `DataError` for images that cannot be read; `ConfigError` for weights that belong to no model.
    """
    opened = open_images(settings) if opened is None else opened
    loaders = _loaders(settings, specs)
    first = loaders[next(iter(loaders))](opened.classes, _stored_shape(opened))
    geometry, whose = _geometry(opened, first)
    if opened.classes is None:
        opened = opened.named(_classes_of(first, opened), _by_index(first))
    elif opened.from_files and set(opened.classes) < set(first.classes):
        opened = opened.named(first.classes, "classes are the first model's, matched by name")
    classes = opened.classes
    channels = max(first.card.input_shape[0], len(first.card.preprocessing.mean)) or None
    del first  # one net at a time
    stored = opened.shape(geometry)
    wanted = 3 if channels == 3 and stored[0] == 1 and opened.from_files else None
    images = opened.read(geometry=geometry, channels=wanted, classes=classes)
    nets: dict[str, Callable[[], Classifier]] = {}
    descriptions = {}
    for name, load_net in loaders.items():
        if not stretch:
            _refuse_other_size(load_net(images.classes, images.shape), images, opened.name)
        nets[name] = partial(_load_fitted, load_net, images, specs[name], opened.name)
        net = nets[name]()
        _check_logits(net, images, specs[name])
        descriptions[name] = _described(net)
    return LoadedModels(
        images=images,
        nets=LazyModels(nets),
        split=opened.split,
        indices=opened.indices,
        geometry=opened.geometry or geometry,
        whose=whose,
        notes=opened.notes,
        descriptions=descriptions,
    )


def open_images(settings: Mapping[str, Any]) -> EvaluationSet:
    """Return the images that options name, sampled, not decoded; raises as `open_evaluation`."""
    count = settings.get("test_size")
    if count is not None and count < 1:
        raise DataError(f"--test-size must be at least 1, not {count}")
    return open_evaluation(
        settings["data"],
        split=settings["split"],
        size=count,
        seed=settings["seed"],
        root=settings["root"],
        download=settings["download"],
    )


def training_images(settings: Mapping[str, Any], loaded: LoadedModels) -> ImageSet:
    """Return the training images in the pixel space of an evaluation, for attacks that train.

    Raises `DataError` where the data has none.
    """
    opened = open_images({**settings, "split": "train", "test_size": None})
    return loaded.read(opened)


@dataclass(frozen=True)
class CleanAccuracy:
    """The clean accuracy of a model beside the published one, and what is suspect about it."""

    clean: KnownRate
    published: Published | None
    warnings: list[Finding]


def measure_clean_accuracy(
    loaded: LoadedModels,
    device: torch.device,
    batch_size: int | None,
    log: Log,
    store: Store | None = None,
) -> dict[str, CleanAccuracy]:
    """Return each model's clean accuracy; log it beside the published one.

    Warnings are logged last, next to the lines of the attacks that follow.
    """
    checked, warnings = {}, []
    for name, net in loaded.nets.items():
        published = loaded.descriptions[name].published
        with on_device(net, device):
            predictions = PredictionCache(
                net,
                loaded.images,
                store or Store(None),
                batch_size=batch_size,
                on_note=lambda note, name=name: log(f"{name}: {note}"),  # type: ignore[misc]
            )
            right = predictions.clean() == loaded.images.labels
        rate = wilson(float(right.double().mean()), len(right))
        note = "" if published is None else f", published {published.accuracy:.1%}"
        log(f"{name}: clean accuracy {format_estimate(rate, '.1%')}{note}")
        findings = evaluation.check_clean(
            rate,
            num_classes=loaded.images.num_classes,
            published=None if published is None else published.accuracy,
        )
        warnings += [f"WARNING: {name}: {each.seen}; {each.means}" for each in findings]
        clean = KnownRate.from_rate(rate)
        checked[name] = CleanAccuracy(clean, published, list(findings))
    for line in warnings:
        log(line)
    return checked


def _loaders(settings: Mapping[str, Any], specs: Mapping[str, str]) -> dict[str, _Loader]:
    """Return a loader for each model, called once classes and image size are known."""
    files = iter(settings["weights"])
    loaders: dict[str, _Loader] = {}
    for name, spec in specs.items():
        parsed = parse(spec)
        weights = None
        if is_untrained(parsed) or (parsed.scheme == "factory" and "weights" not in parsed.options):
            weights = next(files, None)
            weights = None if weights == "none" else weights
        loaders[name] = partial(_load, spec, weights, settings)
    if (left := next(files, None)) is not None:
        raise ConfigError(f"--weights {left}: no model left to take them; model files have theirs")
    return loaders


def _load(
    spec: str,
    weights: str | None,
    settings: Mapping[str, Any],
    classes: tuple[str, ...] | None,
    shape: tuple[int, int, int] | None,
) -> Classifier:
    parsed = parse(spec)
    if parsed.scheme == "zoo":
        ZOO.find(parsed.name)
        if weights is None and "weights" not in parsed.options:
            raise ModelError(f"{spec}: untrained; give a trained model's file, or --weights FILE")
        # A net of the zoo has the statistics of the data it was trained on.
        train = load(settings["data"], root=settings["root"]).train
        mean, std = channel_stats(train)
        bare, *chain = spec.split("|")
        net = models.resolve(
            bare,
            num_classes=train.num_classes,
            in_channels=train.shape[0],
            image_size=train.shape[1:],
            classes=train.classes,
            mean=mean,
            std=std,
            weights=weights,
            seed=0,
        ).eval()
        return models.defended(net, chain) if chain else net
    return models.load(
        spec,
        classes=classes if parsed.scheme != "file" else None,
        input_shape=shape if parsed.scheme != "file" else None,
        weights=weights,
        download=settings["download"],
        trust=settings.get("trust", ()),
    )


def _load_fitted(load_net: _Loader, images: ImageSet, spec: str, data: str) -> Classifier:
    return fit_to_images(load_net(images.classes, images.shape), images, spec, data).eval()


def _stored_shape(opened: EvaluationSet) -> tuple[int, int, int] | None:
    """Return (C,H,W) of the images as stored; None where they are of several sizes."""
    try:
        return opened.shape()
    except DataError:
        return None


def _geometry(opened: EvaluationSet, first: Classifier) -> tuple[Geometry | None, str]:
    """Return how images are resized where the data does not say, and what decided it."""
    if opened.geometry is not None:
        return None, "by the data's options"
    own = first.card.preprocessing.geometry
    if opened.from_files and own is not None:
        return own, "as the first model's own pipeline makes it"
    size, filtered = first.card.preprocessing.input_size, first.card.preprocessing.interpolation
    if opened.from_files and size is not None and filtered is not None:
        return Geometry(size, max(size), filtered), "to the first model's input size"
    return None, "the images' own size"


def _classes_of(first: Classifier, opened: EvaluationSet) -> tuple[str, ...]:
    """Return the classes of images that are labelled with numbers, from the first model."""
    highest = int(opened.labels.max())
    if first.classes:
        if highest >= len(first.classes):
            raise DataError(
                f"{opened.name}: labels go up to {highest}, but the model has "
                f"{len(first.classes)} classes, 0 to {len(first.classes) - 1}"
            )
        if all(name.isdecimal() for name in first.classes):  # the data may know some names
            named = [opened.hints.get(index, name) for index, name in enumerate(first.classes)]
            return distinct(named)
        _check_hints(opened, first.classes)
        return first.classes
    raise DataError(
        f"{opened.name}: labels are numbers, and neither data nor model tells how many classes "
        "there are; give the model's classes: models.wrap(…, classes=…)"
    )


def _by_index(first: Classifier) -> str:
    numbered = all(name.isdecimal() for name in first.classes)
    return "labels are numbers of the first model's classes" + ("" if numbered else ", by index")


def _check_hints(opened: EvaluationSet, classes: Sequence[str]) -> None:
    """Raise `DataError` where the data's names of labels are the model's names of other classes.

    A few may be: some classes share a name, or have names that are spelt alike.
    """
    places = {plain(name): index for index, name in enumerate(classes)}
    known = {label: plain(name) for label, name in opened.hints.items() if plain(name) in places}
    moved = [label for label, name in known.items() if places[name] != label]
    if 10 * len(moved) <= len(known):
        return
    label = moved[0]
    raise DataError(
        f"{opened.name}: label {label} is called '{opened.hints[label]}', which is number "
        f"{places[known[label]]} of the model's classes; number {label} is '{classes[label]}'"
    )


def _refuse_other_size(net: Classifier, images: ImageSet, name: str) -> None:
    own, (_, height, width) = net.card.preprocessing, images.shape
    if own.interpolation is None and own.input_size not in (None, (height, width)):
        wanted = " x ".join(map(str, reversed(own.input_size)))
        raise DataError(f"{name}: {width} x {height} pixels; the model sees {wanted}")


def _check_logits(net: Classifier, images: ImageSet, spec: str) -> None:
    """Raise `ModelError` unless the net gives finite logits of as many classes as the data has."""
    try:
        logits = predict(net, images.images[:_PROBED_IMAGES])
    except (RuntimeError, ValueError, TypeError, IndexError, SystemExit) as error:
        shown, reason = "x".join(map(str, images.shape)), str(error).partition("\n")[0]
        raise ModelError(
            f"{spec}: cannot take {min(_PROBED_IMAGES, len(images))} pictures of {shown} "
            f"({type(error).__name__}: {reason})"
        ) from error
    if logits.dim() != 2 or logits.shape[1] != images.num_classes:
        raise ModelError(
            f"{spec}: gives {tuple(logits.shape[1:])} for an image, not logits of the data's "
            f"{images.num_classes} classes"
        )
    if not bool(torch.isfinite(logits).all()):
        raise ModelError(f"{spec}: its logits are not finite; its training diverged")


def _described(net: Classifier) -> ModelDescription:
    own = net.card.preprocessing
    return ModelDescription(
        preprocessing=own.describe(),
        input_size=None if own.input_size is None else list(own.input_size),
        notes=list(net.notes),
        published=net.card.published,
    )


def _size(net: Classifier) -> int:
    """Return the bytes of a model's weights."""
    return sum(tensor.nbytes for tensor in net.net.state_dict().values())
