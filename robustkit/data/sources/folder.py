"""Image files in one folder per class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from robustkit.data.files import PictureFiles, check_name, image_paths
from robustkit.data.registry import PARTS, Part, Request, Source, source
from robustkit.data.sampling import stratified_split
from robustkit.data.specs import GEOMETRY_OPTIONS
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
    """The pictures in the folders that `labels` names, in its order.

    Raises DataError for a folder without pictures, unless `allow_none`.
    """
    paths: list[str] = []
    given: list[int] = []
    for name, label in labels.items():
        found = image_paths(folder / name) if (folder / name).is_dir() else []
        if not found and not allow_none:
            raise DataError(f"{folder / name} holds no image; every class needs one")
        paths += found
        given += [label] * len(found)
    return Part(torch.tensor(given, dtype=torch.int64), PictureFiles(paths))


def _classes(root: Path, names: tuple[str, ...]) -> tuple[str, ...]:
    found = {name: subfolders(root / name) for name in names}
    if "train" not in found:
        return tuple(sorted(set().union(*found.values())))
    for name, classes in found.items():
        if strange := sorted(set(classes) - set(found["train"])):
            raise DataError(f"{root / name} has the class '{strange[0]}', which train has not")
    return found["train"]


def _divided(root: Path, classes: tuple[str, ...]) -> tuple[Part | None, Part, tuple[str, ...]]:
    """Training and test images of class folders; all are for testing where none can be divided."""
    whole = labelled_part(root, {name: label for label, name in enumerate(classes)})
    if int(torch.bincount(whole.labels).max()) < 2:
        return None, whole, ("no class has two images: all of them are for testing",)
    train, test = stratified_split(whole.labels, TEST_FRACTION, seed=0)
    return _of(whole, train), _of(whole, test), ()


def _of(part: Part, chosen: torch.Tensor) -> Part:
    assert isinstance(part.pictures, PictureFiles)
    return Part(part.labels[chosen], part.pictures.subset(chosen))
