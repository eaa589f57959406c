"""What is explained: a model, its images, and the class whose score is looked at."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor

from robustkit.attacks import predicted_classes, to_levels
from robustkit.cli.commands import load_command
from robustkit.cli.models import LoadedModels, check_code, load_models, name_nets, open_images
from robustkit.cli.parser import CommandParser
from robustkit.commands.transfer.export import crafted
from robustkit.commands.transfer.pipeline import PLAIN, evaluate, prepare
from robustkit.compute import resolve_device
from robustkit.data import open_files, to_unit
from robustkit.errors import ConfigError, DataError, ModelError, did_you_mean
from robustkit.models import Classifier
from robustkit.models.resolve import parse
from robustkit.reading import check_regular, typed_path
from robustkit.repair.patch import apply_file
from robustkit.repair.sets import class_index
from robustkit.runs import RunFolder
from robustkit.runs.summaries import Count, read_settings, read_summary

REPAIRED_KINDS = ("broken", "repaired")
MOST_REPAIRED = 12  # images taken from a repair


class RepairSettings(TypedDict):
    """What is read here of a repair's settings."""

    model: str
    data: str
    root: str | None
    repair_on: str | None
    protocol: str


class RepairSummary(TypedDict):
    """What is read here of a repair's summary: positions of images in what it repaired on."""

    broken_indices: list[Count]
    repaired_indices: list[Count]


def from_repair(settings: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
    """With `--repair DIR` its model, data, and broken or repaired images.

    `given` are the options a person gave. Raises `ConfigError` for what does not go with it,
    `RunError` for a folder that is no repair's or was edited, and `ModelError` for a model that is
    code nobody trusts.
    """
    if settings["repair"] is None:
        if settings["which"] is not None:
            raise ConfigError(
                "--which names images of --repair DIR or --transfer DIR, which are missing"
            )
        return dict(settings)
    which = settings["which"] or REPAIRED_KINDS[0]
    if which not in REPAIRED_KINDS:
        raise ConfigError(f"--which: of --repair it is broken or repaired, not '{which}'")
    folder = RunFolder.open(settings["repair"], verb="repair")
    if folder.summary() is None:
        raise ConfigError(f"{folder.path}: not finished, there is nothing to explain yet")
    config, summary = read_settings(folder, RepairSettings), read_summary(folder, RepairSummary)
    on = config["repair_on"] or ("test" if config["protocol"] == "paper" else "val")
    if on not in ("test", "val"):
        raise ConfigError(f"{folder.path}: was repaired on {on}, which is no split of its data")
    found = {"broken": summary["broken_indices"], "repaired": summary["repaired_indices"]}
    chosen = found[which][:MOST_REPAIRED]
    if not chosen:
        raise ConfigError(f"{folder.path}: no {on} image, which it repaired on, was {which}")
    check_code([config["model"]], settings["trust"], folder.path)
    taken = {"model": config["model"], "data": config["data"], "root": config["root"]}
    indices = [str(index) for index in chosen]
    resolved = {**settings, **taken, "which": which, "split": on, "index": indices}
    for name in (*taken, "contrast", "index", "image", "split"):
        # A saved configuration names again what the repair has.
        if name in given and settings[name] and settings[name] != resolved[name]:
            raise ConfigError(f"--{name}: --repair has its own; leave one of them out")
        if name in ("contrast", "image") and settings[name]:
            raise ConfigError(f"--{name}: --repair has its own; leave one of them out")
    return resolved


TRANSFER_KINDS = ("spared", "misled")
MOST_TRANSFERRED = 12  # images taken from an evaluation
# Options that an evaluation has of its own, and those that name images in another way.
OWN = ("model", "contrast", "data", "root", "split", "pair")
OTHERS = ("weights", "index", "image")


class TransferSettings(TypedDict):
    """What is read here of an evaluation's settings, in the types of its own options."""

    sources: list[str]
    targets: list[str]
    data: str
    root: str | None
    split: str | None
    cache: str


class _Kept(TypedDict):
    """What an evaluation's own pipeline needs besides."""

    attack: str
    eps: float
    seed: int
    weights: list[str]
    download: bool
    export: str
    test_size: int | None


class _Sets(TypedDict):
    keys: dict[str, str]


class TransferSummary(TypedDict):
    """What is read here of an evaluation's summary."""

    sets: _Sets


@dataclass(frozen=True, eq=False)
class Attacked:
    """The nets, and the images chosen, at most `MOST`.

    `images` (N,C,H,W) are the adversarials, float32 in [0,1], or what they were made from, uint8;
    `labels` int64 (N,); `indices` int64 (N,) into the split; `told` is for the summary: of which
    pair they are, and how many there are of this kind among all that the evaluation compares;
    `judged` says in which pixel space.
    """

    source: Classifier
    target: Classifier
    images: Tensor
    labels: Tensor
    indices: Tensor
    told: Mapping[str, Any]
    judged: LoadedModels


def from_transfer(settings: dict[str, Any], given: Collection[str]) -> dict[str, Any]:
    """With `--transfer DIR` the two nets and their data; `given` are the options a person gave.

    Raises `ConfigError` for what does not go with it, and where several pairs of nets might be
    meant; `RunError` as `RunFolder.open`.
    """
    if settings["repair"] is not None:
        raise ConfigError("--repair and --transfer exclude each other: each has its own images")
    which = settings["which"] or TRANSFER_KINDS[0]
    if which not in TRANSFER_KINDS:
        raise ConfigError(f"--which: of --transfer it is spared or misled, not '{which}'")
    for name in OTHERS:
        if settings[name]:
            raise ConfigError(f"--{name}: --transfer has its own; leave one of them out")
    folder, config, _ = _finished(settings["transfer"])
    source, target = _pair(folder, config, settings["pair"])
    taken = {
        "model": name_nets(config["sources"])[source],
        "contrast": name_nets(config["targets"])[target],
        "data": config["data"],
        "root": config["root"],
        "split": config["split"],
        "pair": f"{source}:{target}",
    }
    for name in OWN:
        # A saved configuration names again what the evaluation has.
        if name in given and settings[name] != taken[name]:
            raise ConfigError(f"--{name}: --transfer has its own; leave one of them out")
    return {**settings, **taken, "which": which}


def _finished(path: str) -> tuple[RunFolder, TransferSettings, Mapping[str, str]]:
    """The run folder of an evaluation, its settings, and the keys of its sets.

    Raises `RunError` or `ConfigError`, naming the file and the entry, for what was edited.
    """
    folder = RunFolder.open(path, verb="transfer")
    if folder.summary() is None:
        raise ConfigError(f"{folder.path}: not finished, there is nothing to explain yet")
    keys = read_summary(folder, TransferSummary)["sets"]["keys"]
    read_settings(folder, _Kept)
    return folder, read_settings(folder, TransferSettings), keys


def _pair(folder: RunFolder, config: TransferSettings, named: str | None) -> tuple[str, str]:
    """The source and the target that are meant."""
    sources, targets = name_nets(config["sources"]), name_nets(config["targets"])
    pairs = {
        f"{source}:{target}": (source, target)
        for source, its_spec in sources.items()
        for target, spec in targets.items()
        if spec != its_spec
    }
    if not pairs:
        raise ConfigError(f"{folder.path}: no net was attacked through another one")
    if named is None and len(pairs) > 1:
        raise ConfigError(f"--pair: which of SOURCE:TARGET, {', '.join(pairs)}?")
    if named is not None and named not in pairs:
        raise ConfigError(f"--pair {named}: no such SOURCE:TARGET{did_you_mean(named, pairs)}")
    return pairs[named if named is not None else next(iter(pairs))]


def load_attacked(settings: Mapping[str, Any]) -> Attacked:
    """The nets and images of resolved settings, out of the evaluation's cache where it is there.

    Raises `ConfigError` where no image is of the kind asked for, and where nets, data or attack
    are no more those of the evaluation.
    """
    folder, config, kept = _finished(settings["transfer"])
    specs = [*name_nets(config["sources"]).values(), *name_nets(config["targets"]).values()]
    check_code(specs, settings["trust"], folder.path)
    # Of where the work is done, and of what it may do, the folder has no say.
    own = {name: settings[name] for name in ("device", "trust", "download")}
    parser = CommandParser("transfer")
    load_command("transfer").add_arguments(parser)
    saved = parser.checked(folder.config, str(folder.file("config.yaml")))
    prepared = prepare({**saved, **own}, keep=False)
    source, target = _pair(folder, config, settings["pair"])
    matrix = evaluate(prepared, PLAIN)
    if dict(matrix.keys) != kept:
        raise ConfigError(
            f"{folder.path}: its nets or its data are no more what they were; evaluate anew"
        )
    fooling = torch.from_numpy(matrix.common & matrix.source_fooled[source])
    misled = torch.from_numpy(matrix.target_fooled[source, target])
    chosen = (fooling & (misled if settings["which"] == "misled" else ~misled)).nonzero()[:, 0]
    if not len(chosen):
        raise ConfigError(
            f"{folder.path}: of the {int(fooling.sum())} images that all nets get right and the "
            f"attack on {source} fools it with, {target} was {settings['which']} by none"
        )
    some = chosen[:MOST_TRANSFERRED]
    images = prepared.images.subset(some)
    model = prepared.sources[source]
    assert isinstance(model, Classifier)  # ensembles are no names of models
    return Attacked(
        source=model.to(prepared.device).eval(),
        target=prepared.targets[target].to(prepared.device).eval(),
        judged=prepared.loaded,
        images=images.images if settings["clean"] else crafted(prepared, source).images[some],
        labels=images.labels,
        indices=prepared.loaded.indices[some],
        told={
            "source": source,
            "target": target,
            "which": settings["which"],
            "attacked": not settings["clean"],
            "found": len(chosen),
            "fooling": int(fooling.sum()),
            "set": matrix.keys[source],
        },
    )


@dataclass(frozen=True, eq=False)
class Subject:
    """`images` (N,C,H,W) with what each `label` is, None for files; `names` for the report.

    They are uint8, or float32 in [0,1] where they are adversarials, which lie between the levels.
    `other` is the model that maps are set against, or None; `transfer` says of which pair of nets
    and of how many such images these are, None where no transfer was evaluated; `judged` says in
    which pixel space all this is.
    """

    model: Classifier
    other: Classifier | None
    images: Tensor
    labels: Tensor | None
    names: tuple[str, ...]
    classes: tuple[str, ...]
    transfer: Mapping[str, Any] | None = None
    judged: LoadedModels | None = None

    @property
    def pixels(self) -> Tensor:
        """Images as floats in [0,1]."""
        return to_unit(self.images) if self.images.dtype == torch.uint8 else self.images

    @property
    def levels(self) -> Tensor:
        """Images as uint8, to be looked at."""
        return self.images if self.images.dtype == torch.uint8 else to_levels(self.images)

    @property
    def other_name(self) -> str:
        """What the report calls the other model."""
        return "other model" if self.transfer is None else str(self.transfer["target"])

    def targets(self, target: str) -> Tensor:
        """Class numbers int64 (N,) of "predicted", "true" or a class; raises `ConfigError`."""
        if target == "predicted":
            return predicted_classes(self.model, self.images)
        if target == "true":
            if self.labels is None:
                raise ConfigError("--target true: an image file has no label; name the class")
            return self.labels
        return torch.full((len(self.images),), class_index(target, self.classes))


def resolve_settings(settings: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
    """The settings with what `--repair` or `--transfer` names filled in.

    `given` are the options a person gave. Raises `ConfigError` for one that a repair or a transfer
    has of its own.
    """
    if settings["transfer"] is not None:
        return from_transfer(dict(settings), given)
    for name in ("pair", "clean"):
        if settings[name]:
            raise ConfigError(f"--{name} is of --transfer DIR, which is missing")
    resolved = from_repair(settings, given)
    if resolved["model"] is None:
        raise ConfigError(
            "--model: name the model to explain, a repair with --repair, or a transfer evaluation "
            "with --transfer"
        )
    if bool(resolved["index"]) == bool(resolved["image"]):
        raise ConfigError("name the images: either --index 0,5,9 or --image FILE")
    return resolved


def load_subject(settings: Mapping[str, Any]) -> Subject:
    """Load all that resolved settings name.

    Raises `ConfigError` where images are named in two ways or in none, and `DataError`, naming the
    file or the index, for what is not there.
    """
    if settings["transfer"] is not None:
        return _attacked(settings)
    specs = {"model": settings["model"]}
    if settings["contrast"] is not None:
        specs["contrast"] = settings["contrast"]
    judged = _judged(settings, specs)
    device = resolve_device(settings["device"])
    model = judged.nets["model"].to(device)
    other = judged.nets["contrast"].to(device) if "contrast" in specs else None
    if settings["repair"] is not None:
        folder = RunFolder.open(settings["repair"], verb="repair")
        other = apply_file(folder.file("patch.safetensors"), model)
    images, from_files = judged.images, bool(settings["image"])
    names = tuple(
        Path(each).name if from_files else f"{judged.split} {each}"
        for each in (settings["image"] or judged.indices.tolist())
    )
    return Subject(
        model,
        other,
        images.images,
        None if from_files else images.labels,
        names,
        images.classes,
        judged=judged,
    )


def _judged(settings: Mapping[str, Any], specs: Mapping[str, str]) -> LoadedModels:
    """The nets, and the images that the options name."""
    whole = {**settings, "test_size": None}
    if not settings["image"]:
        opened = open_images(whole)
        chosen = _indices(settings["index"], len(opened), opened.split)
        return load_models(whole, specs, opened.take(torch.tensor(chosen)))
    files = [typed_path(each, error=DataError) for each in settings["image"]]
    for file in files:
        if not os.path.lexists(file):
            raise DataError(f"{file}: no such file")
        check_regular(file, error=DataError)
    # Of a net that knows no names of its classes, the data has to tell them.
    nameless = parse(settings["model"]).scheme in ("zoo", "factory")
    try:
        return load_models(whole, specs, open_files(files), stretch=False)
    except ModelError:
        if not nameless:
            raise
    classes = open_images(whole).classes
    return load_models(whole, specs, open_files(files, classes=classes), stretch=False)


def _attacked(settings: Mapping[str, Any]) -> Subject:
    found = load_attacked(settings)
    after = "" if settings["clean"] else ", attacked"
    judged = found.judged
    names = tuple(f"{judged.split} {index}{after}" for index in found.indices.tolist())
    classes = judged.images.classes
    return Subject(
        found.source, found.target, found.images, found.labels, names, classes, found.told, judged
    )


def _indices(given: Sequence[str], count: int, split: str) -> list[int]:
    for each in given:
        if not str(each).isdecimal():
            raise ConfigError(f"--index: numbers between commas, not '{each}'")
        if int(each) >= count:
            raise ConfigError(f"--index {each}: {split} has {count:,} images, 0 to {count - 1}")
    return [int(each) for each in given]
