"""Image files in one folder per class."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path

import torch

from robustkit.class_names import imagenet_classes
from robustkit.data.pictures import PictureFiles, check_name, image_paths
from robustkit.data.sampling import stratified_split
from robustkit.data.sources.base import GEOMETRY_OPTIONS, PARTS, Part, Request, Source, source
from robustkit.errors import DataError
from robustkit.reading import typed_path

TEST_FRACTION = 0.2


@source("folder", takes_path=True, options=GEOMETRY_OPTIONS)
def open_folder(request: Request) -> Source:
    """Offer `folder:PATH`, or `folder:PATH?size=32` to resize and crop every picture to 32×32.

    PATH holds any of `train/`, `val/` and `test/`, each with one folder per class, or the class
    folders alone: then a fifth of every class, always the same, is for testing. Classes are those
    of `train/`, without it those of the others. Raises DataError naming the folder or file at
    fault.
    """
    root = typed_path(request.argument, error=DataError)
    names = subfolders(root)
    if not set(names) & set(PARTS):
        train, test, notes = _divided(root, names)
        return Source(train, test, names, geometry=request.geometry, notes=notes)
    if not set(names) <= set(PARTS):
        raise DataError(
            f"{root} holds {', '.join(names)}; either only train, val and test, or only class "
            f"folders"
        )
    classes = _classes(root, names)
    labels = {name: label for label, name in enumerate(classes)}
    parts = {name: labelled_part(root / name, labels, allow_none=name != "train") for name in names}
    return Source(
        parts.get("train"),
        parts.get("test"),
        classes,
        val=parts.get("val"),
        geometry=request.geometry,
    )


def subfolders(folder: Path) -> tuple[str, ...]:
    """Return the names of the folders in `folder`, sorted; raises DataError if there are none."""
    if not folder.is_dir():
        raise DataError(f"no such folder: {folder}")
    names = tuple(
        sorted(
            path.name
            for path in folder.iterdir()
            if path.is_dir() and not path.name.startswith(".")
        )
    )
    if not names:
        raise DataError(f"{folder} has no class folders")
    for name in names:
        check_name(name, folder)
    return names


def labelled_part(folder: Path, labels: Mapping[str, int], *, allow_none: bool = False) -> Part:
    """Return the pictures in the folders that `labels` names, in its order.

    Raises DataError for a folder without pictures, unless `allow_none`.
    """
    paths: list[str] = []
    given: list[int] = []
    for name, label in labels.items():
        paths_found = image_paths(folder / name) if (folder / name).is_dir() else []
        if not paths_found and not allow_none:
            raise DataError(f"{folder / name} holds no image; every class needs one")
        paths += paths_found
        given += [label] * len(paths_found)
    return Part(torch.tensor(given, dtype=torch.int64), PictureFiles(paths))


def _classes(root: Path, names: tuple[str, ...]) -> tuple[str, ...]:
    subfolders_of = {name: subfolders(root / name) for name in names}
    if "train" not in subfolders_of:
        return tuple(sorted(set().union(*subfolders_of.values())))
    for name, classes in subfolders_of.items():
        if strange := sorted(set(classes) - set(subfolders_of["train"])):
            raise DataError(f"{root / name} has the class '{strange[0]}', which train has not")
    return subfolders_of["train"]


def _divided(root: Path, classes: tuple[str, ...]) -> tuple[Part | None, Part, tuple[str, ...]]:
    """Return training and test images of class folders; without a division all are for testing."""
    whole = labelled_part(root, {name: label for label, name in enumerate(classes)})
    if int(torch.bincount(whole.labels).max()) < 2:
        return None, whole, ("no class has two images: all of them are for testing",)
    train, test = stratified_split(whole.labels, TEST_FRACTION, seed=0)
    return _of(whole, train), _of(whole, test), ()


def _of(part: Part, chosen: torch.Tensor) -> Part:
    assert isinstance(part.pictures, PictureFiles)
    return Part(part.labels[chosen], part.pictures.subset(chosen))


WNIDS = "imagenet_wnids.txt"  # one a line, in their order


@source("imagenet", takes_path=True, options=GEOMETRY_OPTIONS)
def open_imagenet(request: Request) -> Source:
    """Offer `imagenet:PATH`, the classes in the usual order even where only some folders are there.

    PATH holds folders named by wnid, which are for testing, or any of `train/`, `val/` and `test/`
    with such folders. Raises DataError naming the folder at fault.
    """
    root = typed_path(request.argument, error=DataError)
    names = subfolders(root)
    if set(names) <= set(PARTS):
        parts = {name: _part(root / name) for name in names}
    else:
        parts = {"test": _part(root)}
    return Source(
        train=parts.get("train"),
        val=parts.get("val"),
        test=parts.get("test"),
        classes=imagenet_classes(),
        geometry=request.geometry,
    )


@cache
def imagenet_wnids() -> dict[str, int]:
    """Return the index of every class by its wnid, the 1,000 of them sorted."""
    text = resources.files("robustkit.data").joinpath(WNIDS).read_text(encoding="ascii")
    return {wnid: index for index, wnid in enumerate(text.split())}


def is_wnid(name: str) -> bool:
    """Return whether a name looks like a wnid: n and eight digits."""
    return re.fullmatch(r"n[0-9]{8}", name) is not None


def _part(folder: Path) -> Part:
    known = imagenet_wnids()
    names = subfolders(folder)
    for name in names:
        if name not in known:
            raise DataError(
                f"{folder} holds '{name}', which is no wnid of ILSVRC2012's 1,000 classes; "
                f"expected folders like n01440764"
            )
    return labelled_part(folder, {name: known[name] for name in names}, allow_none=True)
