"""The subject of an explanation: a model, images, and the classes whose scores are explained.

It is named by options, or taken from a repair or from a transfer evaluation.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robustkit.attacks import predicted_classes, to_levels
from robustkit.cli.commands import load_command
from robustkit.cli.inputs import LoadedModels, load_models, open_images
from robustkit.cli.models import check_code, name_models
from robustkit.cli.parser import CommandParser
from robustkit.commands.explain.result import TransferOrigin
from robustkit.commands.transfer.pipeline import PLAIN, evaluate
from robustkit.commands.transfer.preparation import Prepared, crafted, prepare
from robustkit.compute import resolve_device
from robustkit.data import open_files, to_unit
from robustkit.errors import ConfigError, DataError, ModelError, did_you_mean
from robustkit.models import Classifier
from robustkit.models.resolve import parse
from robustkit.reading import check_regular, typed_path
from robustkit.repair.patch import apply_file
from robustkit.repair.sets import class_index
from robustkit.runs import RunFolder
from robustkit.runs.summaries import Count, Result, read_settings, read_summary

REPAIR_KINDS = ("broken", "repaired")
TRANSFER_KINDS = ("spared", "misled")
MOST = 12  # images taken from a repair or a transfer evaluation

# Options that a transfer evaluation decides, and those that it excludes.
_DECIDED = ("model", "contrast", "data", "root", "split", "pair")
_EXCLUDED = ("weights", "index", "image")

Settings = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Subject:
    """A model and `images` (N,C,H,W) with their `labels` int64 (N,), None for image files.

    `images` are uint8, or float32 in [0,1] where they are adversarials, which lie between the
    levels; `names` are for the report. `other` is the model that maps are compared with, if any;
    `transfer` the evaluation that the images come from, if any; `loaded` has the pixel space.
    """

    model: Classifier
    other: Classifier | None
    images: Tensor
    labels: Tensor | None
    names: tuple[str, ...]
    classes: tuple[str, ...]
    transfer: TransferOrigin | None = None
    loaded: LoadedModels | None = None

    @property
    def pixels(self) -> Tensor:
        """The images as float32 in [0,1]."""
        return to_unit(self.images) if self.images.dtype == torch.uint8 else self.images

    @property
    def levels(self) -> Tensor:
        """The images as uint8, to be shown."""
        return self.images if self.images.dtype == torch.uint8 else to_levels(self.images)

    @property
    def other_name(self) -> str:
        """The name of the other model in the report."""
        return "other model" if self.transfer is None else self.transfer.target

    def targets(self, target: str) -> Tensor:
        """Return class numbers int64 (N,) of "predicted", "true" or a class.

        Raises `ConfigError` for a class that the model lacks, and for labels that are not known.
        """
        if target == "predicted":
            return predicted_classes(self.model, self.images)
        if target == "true":
            if self.labels is None:
                raise ConfigError("--target true: an image file has no label; name the class")
            return self.labels
        return torch.full((len(self.images),), class_index(target, self.classes))


def resolve_settings(settings: Settings, given: Collection[str]) -> Settings:
    """Return the settings with what `--repair` or `--transfer` decides filled in.

    `given` are the names of the options that the user gave. Raises `ConfigError` for those that
    contradict each other or the folder, and where no model or no image is named; `RunError` for a
    folder of another command and for one that was edited; `ModelError` for a repair whose model is
    code that is not trusted.
    """
    if settings["transfer"] is not None:
        return _from_transfer(settings, given)
    for name in ("pair", "clean"):
        if settings[name]:
            raise ConfigError(f"--{name} is of --transfer DIR, which is missing")
    resolved = _from_repair(settings, given)
    if resolved["model"] is None:
        raise ConfigError(
            "--model: name the model to explain, a repair with --repair, or a transfer evaluation "
            "with --transfer"
        )
    if bool(resolved["index"]) == bool(resolved["image"]):
        raise ConfigError("name the images: either --index 0,5,9 or --image FILE")
    return resolved


def load_subject(settings: Settings) -> Subject:
    """Return the subject that resolved settings name.

    Raises `DataError`, naming the file or the index, for images that are not there; `ConfigError`
    where a transfer evaluation has no image of the kind asked for, and where its models, data or
    attack have changed; and as `load_models` does.
    """
    if settings["transfer"] is not None:
        return _load_transferred(settings)
    specs = {"model": settings["model"]}
    if settings["contrast"] is not None:
        specs["contrast"] = settings["contrast"]
    loaded = _load_models(settings, specs)
    device = resolve_device(settings["device"])
    model = loaded.nets["model"].to(device)
    other = loaded.nets["contrast"].to(device) if "contrast" in specs else None
    if settings["repair"] is not None:
        folder = RunFolder.open(settings["repair"], command="repair")
        other = apply_file(folder.file("patch.safetensors"), model)
    files = settings["image"]
    return Subject(
        model=model,
        other=other,
        images=loaded.images.images,
        labels=None if files else loaded.images.labels,
        names=tuple(Path(file).name for file in files)
        or tuple(f"{loaded.split} {index}" for index in loaded.indices.tolist()),
        classes=loaded.images.classes,
        loaded=loaded,
    )


def _load_models(settings: Settings, specs: Mapping[str, str]) -> LoadedModels:
    """Return the models of `specs` with the images that the options name."""
    whole = {**settings, "test_size": None}
    if not settings["image"]:
        opened = open_images(whole)
        chosen = _indices(settings["index"], len(opened), opened.split)
        return load_models(whole, specs, opened.take(torch.tensor(chosen)))
    files = [typed_path(file, error=DataError) for file in settings["image"]]
    for file in files:
        if not os.path.lexists(file):
            raise DataError(f"{file}: no such file")
        check_regular(file, error=DataError)
    # The data names the classes of a model that has no names for them.
    nameless = parse(settings["model"]).scheme in ("zoo", "factory")
    try:
        return load_models(whole, specs, open_files(files), stretch=False)
    except ModelError:
        if not nameless:
            raise
    classes = open_images(whole).classes
    return load_models(whole, specs, open_files(files, classes=classes), stretch=False)


def _indices(given: Sequence[str], count: int, split: str) -> list[int]:
    for index in given:
        if not str(index).isdecimal():
            raise ConfigError(f"--index: numbers between commas, not '{index}'")
        if int(index) >= count:
            raise ConfigError(f"--index {index}: {split} has {count:,} images, 0 to {count - 1}")
    return [int(index) for index in given]


class _RepairSettings(Result, frozen=True):
    """The settings of a repair that are read here."""

    model: str
    data: str
    root: str | None
    repair_on: str | None
    protocol: str


class _RepairSummary(Result, frozen=True):
    """The part of a repair's summary that is read here: indices into the split it repaired on."""

    broken_indices: list[Count]
    repaired_indices: list[Count]


def _from_repair(settings: Settings, given: Collection[str]) -> Settings:
    """Return the settings with the model, data and images of `--repair DIR`, if it is given."""
    if settings["repair"] is None:
        if settings["which"] is not None:
            raise ConfigError(
                "--which names images of --repair DIR or --transfer DIR, which are missing"
            )
        return settings
    which = settings["which"] or REPAIR_KINDS[0]
    if which not in REPAIR_KINDS:
        raise ConfigError(f"--which: of --repair it is broken or repaired, not '{which}'")
    folder = _finished(settings["repair"], "repair")
    repair, summary = read_settings(folder, _RepairSettings), read_summary(folder, _RepairSummary)
    split = repair.repair_on or ("test" if repair.protocol == "paper" else "val")
    if split not in ("test", "val"):
        raise ConfigError(f"{folder.path}: was repaired on {split}, which is no split of its data")
    indices = summary.broken_indices if which == "broken" else summary.repaired_indices
    if not indices:
        raise ConfigError(f"{folder.path}: no {split} image, which it repaired on, was {which}")
    check_code([repair.model], settings["trust"], folder.path)
    decided = {"model": repair.model, "data": repair.data, "root": repair.root}
    chosen = [str(index) for index in indices[:MOST]]
    resolved = {**settings, **decided, "which": which, "split": split, "index": chosen}
    for name in (*decided, "contrast", "index", "image", "split"):
        # A saved configuration repeats what the repair decides.
        repeated = name in given and settings[name] and settings[name] != resolved[name]
        if repeated or (name in ("contrast", "image") and settings[name]):
            raise ConfigError(f"--{name}: --repair has its own; leave one of them out")
    return resolved


class _TransferSettings(Result, frozen=True):
    """The settings of a transfer evaluation that are read here, or needed to repeat it."""

    sources: list[str]
    targets: list[str]
    data: str
    root: str | None
    split: str | None
    cache: str
    attack: str
    eps: float
    seed: int
    weights: list[str]
    download: bool
    export: str
    test_size: int | None


class _Sets(Result, frozen=True):
    keys: dict[str, str]


class _TransferSummary(Result, frozen=True):
    """The part of a transfer evaluation's summary that is read here."""

    sets: _Sets


def _from_transfer(settings: Settings, given: Collection[str]) -> Settings:
    """Return the settings with the two models and the data of `--transfer DIR`."""
    if settings["repair"] is not None:
        raise ConfigError("--repair and --transfer exclude each other: each has its own images")
    which = settings["which"] or TRANSFER_KINDS[0]
    if which not in TRANSFER_KINDS:
        raise ConfigError(f"--which: of --transfer it is spared or misled, not '{which}'")
    for name in _EXCLUDED:
        if settings[name]:
            raise ConfigError(f"--{name}: --transfer has its own; leave one of them out")
    folder, transfer, _ = _open_transfer(settings["transfer"])
    source, target = _pair(folder, transfer, settings["pair"])
    decided = {
        "model": name_models(transfer.sources)[source],
        "contrast": name_models(transfer.targets)[target],
        "data": transfer.data,
        "root": transfer.root,
        "split": transfer.split,
        "pair": f"{source}:{target}",
    }
    for name in _DECIDED:
        # A saved configuration repeats what the evaluation decides.
        if name in given and settings[name] != decided[name]:
            raise ConfigError(f"--{name}: --transfer has its own; leave one of them out")
    return {**settings, **decided, "which": which}


def _load_transferred(settings: Settings) -> Subject:
    """Return the subject of resolved settings with `--transfer`: at most `MOST` images.

    Adversarials come from the evaluation's cache where they are there.
    """
    folder, transfer, keys = _open_transfer(settings["transfer"])
    prepared = _prepared_again(folder, transfer, settings)
    source, target = _pair(folder, transfer, settings["pair"])
    matrix = evaluate(prepared, PLAIN)
    if dict(matrix.keys) != keys:
        raise ConfigError(
            f"{folder.path}: its nets or its data are no more what they were; evaluate anew"
        )
    fooling = torch.from_numpy(matrix.common & matrix.source_fooled[source])
    misled = torch.from_numpy(matrix.target_fooled[source, target])
    which = settings["which"]
    chosen = (fooling & (misled if which == "misled" else ~misled)).nonzero()[:, 0]
    if not len(chosen):
        raise ConfigError(
            f"{folder.path}: of the {int(fooling.sum())} images that all nets get right and the "
            f"attack on {source} fools it with, {target} was {which} by none"
        )
    first = chosen[:MOST]
    images = prepared.images.subset(first)
    model = prepared.sources[source]
    assert isinstance(model, Classifier)  # ensembles are no names of models
    attacked = not settings["clean"]
    suffix = ", attacked" if attacked else ""
    split, indices = prepared.loaded.split, prepared.loaded.indices[first].tolist()
    return Subject(
        model=model.to(prepared.device).eval(),
        other=prepared.targets[target].to(prepared.device).eval(),
        images=crafted(prepared, source).images[first] if attacked else images.images,
        labels=images.labels,
        names=tuple(f"{split} {index}{suffix}" for index in indices),
        classes=images.classes,
        transfer=TransferOrigin(
            source=source,
            target=target,
            which=which,
            attacked=attacked,
            found=len(chosen),
            fooling=int(fooling.sum()),
            set=matrix.keys[source],
        ),
        loaded=prepared.loaded,
    )


def _prepared_again(folder: RunFolder, transfer: _TransferSettings, settings: Settings) -> Prepared:
    """Return the evaluation in `folder`, loaded and checked, with its cache only read.

    Raises `ConfigError` for code that the user does not name.
    """
    specs = [*name_models(transfer.sources).values(), *name_models(transfer.targets).values()]
    check_code(specs, settings["trust"], folder.path)
    # The folder decides neither where the work is done nor what it may do.
    local = {name: settings[name] for name in ("device", "trust", "download")}
    parser = CommandParser("transfer")
    load_command("transfer").add_arguments(parser)
    saved = parser.checked(folder.config, str(folder.file("config.yaml")))
    return prepare({**saved, **local}, keep=False)


def _open_transfer(path: str) -> tuple[RunFolder, _TransferSettings, Mapping[str, str]]:
    """Return the folder of a transfer evaluation, its settings, and the keys of its sets."""
    folder = _finished(path, "transfer")
    keys = read_summary(folder, _TransferSummary).sets.keys
    return folder, read_settings(folder, _TransferSettings), keys


def _pair(folder: RunFolder, transfer: _TransferSettings, named: str | None) -> tuple[str, str]:
    """Return the names of the source and the target that `--pair` names, or the only ones."""
    sources, targets = name_models(transfer.sources), name_models(transfer.targets)
    pairs = {
        f"{source}:{target}": (source, target)
        for source, source_spec in sources.items()
        for target, target_spec in targets.items()
        if target_spec != source_spec
    }
    if not pairs:
        raise ConfigError(f"{folder.path}: no net was attacked through another one")
    if named is None and len(pairs) > 1:
        raise ConfigError(f"--pair: which of SOURCE:TARGET, {', '.join(pairs)}?")
    if named is not None and named not in pairs:
        raise ConfigError(f"--pair {named}: no such SOURCE:TARGET{did_you_mean(named, pairs)}")
    return pairs[named if named is not None else next(iter(pairs))]


def _finished(path: str, command: str) -> RunFolder:
    """Return the folder of a finished run of `command`."""
    folder = RunFolder.open(path, command=command)
    if folder.summary() is None:
        raise ConfigError(f"{folder.path}: not finished, there is nothing to explain yet")
    return folder
