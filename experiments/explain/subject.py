"""What is explained: a model, its images, and the class whose score is looked at."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.explain.repaired import from_repair
from experiments.explain.transferred import from_transfer, load_attacked
from experiments.judged import Judged, load_judged, open_images
from robustkit.attacks import predict, to_levels
from robustkit.compute import resolve_device
from robustkit.data import open_files, to_unit
from robustkit.errors import ConfigError, DataError, ModelError
from robustkit.models import Classifier
from robustkit.models.specs import parse
from robustkit.reading import check_regular, typed_path
from robustkit.repair.patch import apply_file
from robustkit.repair.sets import class_index
from robustkit.runs import RunFolder


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
    judged: Judged | None = None

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
            return predict(self.model, self.images).argmax(dim=1)
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


def _judged(settings: Mapping[str, Any], specs: Mapping[str, str]) -> Judged:
    """The nets, and the images that the options name."""
    whole = {**settings, "test_size": None}
    if not settings["image"]:
        opened = open_images(whole)
        chosen = _indices(settings["index"], len(opened), opened.split)
        return load_judged(whole, specs, opened.take(torch.tensor(chosen)))
    files = [typed_path(each, error=DataError) for each in settings["image"]]
    for file in files:
        if not os.path.lexists(file):
            raise DataError(f"{file}: no such file")
        check_regular(file, error=DataError)
    # Of a net that knows no names of its classes, the data has to tell them.
    nameless = parse(settings["model"]).scheme in ("zoo", "factory")
    try:
        return load_judged(whole, specs, open_files(files), stretch=False)
    except ModelError:
        if not nameless:
            raise
    classes = open_images(whole).classes
    return load_judged(whole, specs, open_files(files, classes=classes), stretch=False)


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


__all__ = ["Subject", "load_subject", "resolve_settings"]
