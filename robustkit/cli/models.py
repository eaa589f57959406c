"""The networks that options name, made for the images they are to see."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from robustkit import evaluation, models
from robustkit.attacks import Store, predict
from robustkit.attacks.predictions import PredictionCache
from robustkit.class_names import distinct
from robustkit.cli.parser import CommandParser
from robustkit.compute import on_device
from robustkit.data import EvaluationSet, ImageSet, Splits, channel_stats, load, open_evaluation
from robustkit.errors import ConfigError, DataError, ModelError
from robustkit.geometry import Geometry
from robustkit.models import ZOO, Classifier
from robustkit.models.classifier import matched, plain, takes_grey
from robustkit.models.resolve import parse, untrained
from robustkit.models.sources.factory import FACTORY
from robustkit.report import format_estimate
from robustkit.runs.summaries import (
    Finding,
    ModelDescription,
    PixelSpace,
    Published,
    SavedGeometry,
)
from robustkit.stats import KnownRate, wilson

KEPT = 2**28  # bytes of weights kept in memory; beyond, nets are loaded again when they are used


def resolve_net(
    spec: str,
    splits: Splits,
    *,
    seed: int,
    weights: str | None = None,
    download: bool = False,
    trust: Sequence[str] = (),
) -> Classifier:
    """The classifier that `spec` names, to be trained on `splits`.

    Nets without a preprocessing of their own normalise as the training split says. Raises
    `ModelError` as `robustkit.models.resolve`, and `DataError` for images that are not square where
    the net takes square ones: before there is a run folder, not in the first step.
    """
    channels, height, width = splits.train.shape
    if height != width and spec.partition("?")[0] in ZOO:
        raise DataError(
            f"{splits.name}: images are {width}x{height} pixels, and networks take square ones; "
            f"crop them or, in a folder of images, add '?size={min(height, width)}' to its path"
        )
    mean, std = channel_stats(splits.train)
    return models.resolve(
        spec,
        num_classes=splits.train.num_classes,
        in_channels=channels,
        image_size=(height, width),
        classes=splits.train.classes,
        mean=mean,
        std=std,
        weights=weights,
        seed=seed,
        download=download,
        trust=trust,
    )


def fitted(net: Classifier, images: ImageSet, spec: str, data: str) -> Classifier:
    """A trained net in the pixel space of the images, its classes in their order.

    `spec` and `data` name both in errors. Raises `ModelError` for other classes, and for colours
    where the net takes grey.
    """
    net = matched(net, images.classes, spec, data)
    channels = net.card.input_shape[0]
    grey = images.shape[0] == 1 and takes_grey(net.card.preprocessing)
    if channels not in (0, images.shape[0]) and not grey:
        raise ModelError(
            f"{spec}: the model takes images of shape {net.card.input_shape}, the data has "
            f"{images.shape}"
        )
    return models.resizing(net, images.shape[1:])


def check_code(specs: Iterable[str], trust: Sequence[str], where: Path) -> None:
    """Raise `ModelError` where a run names a function of somebody's as a model, and none trusts it.

    `where` is the run's folder: what a user types himself is his to run, a folder runs no code.
    """
    for spec in specs:
        parsed = parse(spec)
        if parsed.scheme == FACTORY and parsed.name not in trust:
            raise ModelError(
                f"{where}: its model {spec} is made by a function, which loading would run; if you "
                f"trust it, say so: --trust {parsed.name}"
            )


class Nets(Mapping[str, Classifier]):
    """Models by name, loaded when they are asked for.

    Those asked for last stay in memory while their weights take at most `kept` bytes together, so
    that memory does not grow with their number.
    """

    def __init__(
        self, loaders: Mapping[str, Callable[[], Classifier]], *, kept: int = KEPT
    ) -> None:
        self._loaders, self._kept = dict(loaders), kept
        self._loaded: OrderedDict[str, Classifier] = OrderedDict()

    def __getitem__(self, name: str) -> Classifier:
        if name not in self._loaded:
            self._loaded[name] = self._loaders[name]()
        self._loaded.move_to_end(name)
        while len(self._loaded) > 1 and sum(map(_bytes, self._loaded.values())) > self._kept:
            self._loaded.popitem(last=False)
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaders)

    def __len__(self) -> int:
        return len(self._loaders)

    def only(self, names: Sequence[str]) -> Nets:
        """Some of the models, by the same loaders."""
        return Nets({name: self._loaders[name] for name in names}, kept=self._kept)


def _bytes(net: Classifier) -> int:
    return sum(each.nbytes for each in net.net.state_dict().values())


_PROBED = 8  # pictures that every net is shown before anything is evaluated


def add_model_options(parser: CommandParser) -> None:
    """`--weights`, `--trust`, and which images the nets are evaluated on."""
    group = parser.add_argument_group("images and nets")
    group.add_argument(
        "--weights",
        nargs="+",
        metavar="FILE",
        default=[],
        help="state dicts for those models that name no weights, in their order; none: its own",
    )
    add_trust_option(group)
    group.add_argument(
        "--split", default=None, help="test, val or train; none: the first that the data has"
    )
    group.add_argument(
        "--test-size",
        type=int | None,
        metavar="N",
        help="evaluate on N images, classes kept even where there are enough",
    )
    add_batch_option(group)


def add_trust_option(group: Any) -> None:
    """`--trust`: functions that a model file may name and loading may run."""
    group.add_argument(
        "--trust",
        nargs="+",
        metavar="FACTORY",
        default=[],
        help="package.module:factory that makes the net of a model file, and may be run",
    )


def add_batch_option(group: Any) -> None:
    """`--batch-size`."""
    group.add_argument(
        "--batch-size",
        default="auto",
        metavar="N",
        help="images at a time, or auto: as many as fit, halved where memory runs out",
    )


def batch_size_of(settings: Mapping[str, Any]) -> int | None:
    """The number that `--batch-size` says, None for auto; raises `ConfigError`."""
    text = str(settings.get("batch_size", "auto"))
    if text == "auto":
        return None
    if not text.isdecimal() or len(text) > 9 or int(text) < 1:
        raise ConfigError(f"--batch-size must be auto or a whole number from 1 on, not '{text}'")
    return int(text)


@dataclass(frozen=True, eq=False)
class LoadedModels:
    """The images and models of an evaluation, all in one pixel space.

    `geometry` is how pictures were made, None where they are as they are stored; `whose` says what
    chose it. `indices` int64 (n,) are the images' positions in the `split`.
    """

    images: ImageSet
    nets: Nets
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
        """Yield the lines that tell the user of it."""
        channels, height, width = self.images.shape
        how = "as stored" if self.geometry is None else self.geometry.describe()
        yield f"pixel space: {channels}x{height}x{width}, {how} ({self.whose})"
        yield from self.notes
        for name, description in self.descriptions.items():
            for note in description.notes:
                yield f"{name}: {note}"


def name_nets(specs: Sequence[str]) -> dict[str, str]:
    """Specs by the names they go by: "NAME=SPEC" as given, else a file's stem, else the spec.

    Files of one stem are told apart by their folders. Raises `ConfigError` for a name given twice.
    """
    named: dict[str, str] = {}
    for given in specs:
        name, equals, spec = given.partition("=")
        # A file whose name has an "=" is a file.
        explicit = bool(equals) and not Path(given).exists() and not {"/", "?", ":"} & set(name)
        if explicit and not (name and spec):
            raise ConfigError(f"'{given}': expected NAME=MODEL")
        if not explicit:
            spec = given
            is_file = spec.endswith((".safetensors", ".npz")) and "?" not in spec
            name = Path(spec).stem if is_file else spec
            if name in named and is_file:
                name = str(Path(spec).with_suffix(""))
        if name in named:
            raise ConfigError(f"two models called '{name}': write NAME={spec} to tell them apart")
        named[name] = spec
    return named


def training_images(settings: Mapping[str, Any], loaded: LoadedModels) -> ImageSet:
    """The data's training images in the pixel space of an evaluation, for attacks that train.

    Raises `DataError` where the data has none.
    """
    opened = open_images({**settings, "split": "train", "test_size": None})
    return loaded.read(opened)


def open_images(settings: Mapping[str, Any]) -> EvaluationSet:
    """The images that options name, sampled and not decoded; raises as `open_evaluation` does."""
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


def load_models(
    settings: Mapping[str, Any],
    specs: Mapping[str, str],
    opened: EvaluationSet | None = None,
    *,
    stretch: bool = True,
) -> LoadedModels:
    """The nets that `specs` name and the images of the options, ready to be evaluated.

    Every net is loaded once, one after the other, and checked. Without `stretch` pictures of
    another size are refused for nets that do not resize of themselves. Raises `ModelError` for a
    net that is untrained, trained on other classes, or gives no logits, and as `models.load` does;
    `DataError` for images that cannot be read; `ConfigError` for weights that belong to none.
    """
    opened = open_images(settings) if opened is None else opened
    loaders = _loaders(settings, specs)
    first = loaders[next(iter(loaders))](opened.classes, _own_shape(opened))
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
        _check(net, images, specs[name])
        descriptions[name] = _described(net)
    return LoadedModels(
        images=images,
        nets=Nets(nets),
        split=opened.split,
        indices=opened.indices,
        geometry=opened.geometry or geometry,
        whose=whose,
        notes=opened.notes,
        descriptions=descriptions,
    )


_Loader = Callable[[tuple[str, ...] | None, tuple[int, int, int] | None], Classifier]


@dataclass(frozen=True)
class CleanAccuracy:
    """The clean accuracy of a model beside the published one, and what is suspect about it."""

    clean: KnownRate
    published: Published | None
    warnings: list[Finding]


def check_clean(
    loaded: LoadedModels,
    device: torch.device,
    batch_size: int | None,
    log: Callable[[str], None],
    store: Store | None = None,
) -> dict[str, CleanAccuracy]:
    """Return each model's clean accuracy; log it beside the published one.

    What is suspect is logged last, so that it stands where attacks begin.
    """
    checked, suspect = {}, []
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
        beside = "" if published is None else f", published {published.accuracy:.1%}"
        log(f"{name}: clean accuracy {format_estimate(rate, '.1%')}{beside}")
        findings = evaluation.check_clean(
            rate,
            num_classes=loaded.images.num_classes,
            published=None if published is None else published.accuracy,
        )
        suspect += [f"WARNING: {name}: {each.seen}; {each.means}" for each in findings]
        clean = KnownRate.from_rate(rate)
        checked[name] = CleanAccuracy(clean, published, list(findings))
    for line in suspect:
        log(line)
    return checked


def _loaders(settings: Mapping[str, Any], specs: Mapping[str, str]) -> dict[str, _Loader]:
    """How to load each net, once classes and picture size are known."""
    files = iter(settings["weights"])
    loaders: dict[str, _Loader] = {}
    for name, spec in specs.items():
        parsed = parse(spec)
        given = None
        if untrained(parsed) or (parsed.scheme == "factory" and "weights" not in parsed.options):
            given = next(files, None)
            given = None if given == "none" else given
        loaders[name] = partial(_load, spec, given, settings)
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
        return models.resolve(
            spec,
            num_classes=train.num_classes,
            in_channels=train.shape[0],
            image_size=train.shape[1:],
            classes=train.classes,
            mean=mean,
            std=std,
            weights=weights,
            seed=0,
        ).eval()
    return models.load(
        spec,
        classes=classes if parsed.scheme != "file" else None,
        input_shape=shape if parsed.scheme != "file" else None,
        weights=weights,
        download=settings["download"],
        trust=settings.get("trust", ()),
    )


def _own_shape(opened: EvaluationSet) -> tuple[int, int, int] | None:
    """(C,H,W) of the images where they are of one size, and not of a model's making."""
    try:
        return opened.shape()
    except DataError:
        return None


def _geometry(opened: EvaluationSet, first: Classifier) -> tuple[Geometry | None, str]:
    """How pictures are made, where the set does not say; and whose choice that is."""
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
    """The classes of images that are labelled with numbers: the first model's, or numbers."""
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
    """Raise `DataError` where names beside labels are those of other numbers' classes.

    A few may be: two classes of one name, or of names that somebody spelt alike.
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


def _load_fitted(load_net: _Loader, images: ImageSet, spec: str, data: str) -> Classifier:
    return fitted(load_net(images.classes, images.shape), images, spec, data).eval()


def _refuse_other_size(net: Classifier, images: ImageSet, name: str) -> None:
    own, (_, height, width) = net.card.preprocessing, images.shape
    if own.interpolation is None and own.input_size not in (None, (height, width)):
        wanted = " x ".join(map(str, reversed(own.input_size)))
        raise DataError(f"{name}: {width} x {height} pixels; the model sees {wanted}")


def _check(net: Classifier, images: ImageSet, spec: str) -> None:
    """Raise `ModelError` unless the net gives finite logits of as many classes as the data has."""
    try:
        logits = predict(net, images.images[:_PROBED])
    except (RuntimeError, ValueError, TypeError, IndexError, SystemExit) as error:
        shown, reason = "x".join(map(str, images.shape)), str(error).partition("\n")[0]
        raise ModelError(
            f"{spec}: cannot take {min(_PROBED, len(images))} pictures of {shown} "
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
