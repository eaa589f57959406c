"""Image files in one folder per class."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from robustkit.data.files import Format, find_images, read_images, survey
from robustkit.data.registry import Part, Request, Source, source
from robustkit.data.sampling import stratified_split
from robustkit.errors import DataError

TEST_FRACTION = 0.2
LARGEST = 4096  # pixels; beyond, a size is a slip of the finger


@source("folder", takes_path=True)
def open_folder(request: Request) -> Source:
    """Offer `folder:PATH` or `folder:PATH?size=32`, which resizes every image to 32×32.

    PATH holds `train/` and `test/`, each with one folder per class, or the class folders alone:
    then a fifth of every class, always the same, is for testing. Raises DataError naming the
    folder or file at fault.
    """
    root, size = _parse(request.argument)
    if not root.is_dir():
        raise DataError(f"no such folder: {root}")
    names = _subfolders(root)
    if "train" not in names and "test" not in names:
        return _divided(root, names, size)
    if names != ("test", "train"):
        raise DataError(
            f"{root} holds {', '.join(names)}; either exactly train and test, or only class folders"
        )
    classes = _subfolders(root / "train")
    strange = sorted(set(_subfolders(root / "test")) - set(classes))
    if strange:
        raise DataError(f"{root / 'test'} has the class '{strange[0]}', which train has not")
    train, test = _files(root / "train", classes), _files(root / "test", classes, allow_none=True)
    form = survey([path for path, _ in train + test], size)
    return Source(_part(train, form), _part(test, form), classes)


def _parse(argument: str) -> tuple[Path, int | None]:
    path, mark, option = argument.partition("?")
    if not mark:
        return Path(path).expanduser(), None
    key, _, value = option.partition("=")
    if key != "size" or not value.isdecimal() or len(value) > 9 or not 1 <= int(value) <= LARGEST:
        raise DataError(
            f"'?{option}' is no option of a folder; write '?size=32' to resize, up to {LARGEST}"
        )
    return Path(path).expanduser(), int(value)


def _subfolders(folder: Path) -> tuple[str, ...]:
    names = tuple(
        sorted(
            path.name
            for path in folder.iterdir()
            if path.is_dir() and not path.name.startswith(".")
        )
    )
    if not names:
        raise DataError(f"{folder} has no class folders")
    return names


def _files(
    folder: Path, classes: tuple[str, ...], *, allow_none: bool = False
) -> list[tuple[Path, int]]:
    files = []
    for label, name in enumerate(classes):
        found = find_images(folder / name)
        if not found and not allow_none:
            raise DataError(f"{folder / name} holds no image; every class needs one")
        files += [(path, label) for path in found]
    return files


def _divided(root: Path, classes: tuple[str, ...], size: int | None) -> Source:
    files = _files(root, classes)
    everything = _part(files, survey([path for path, _ in files], size))
    try:
        train, test = stratified_split(everything.labels, TEST_FRACTION, seed=0)
    except DataError as error:
        raise DataError(f"{root}: {error}") from error
    return Source(_of(everything, train), _of(everything, test), classes)


def _part(files: list[tuple[Path, int]], form: Format) -> Part:
    return Part(
        labels=torch.tensor([label for _, label in files], dtype=torch.int64),
        read=lambda indices: read_images([files[index][0] for index in indices.tolist()], form),
    )


def _of(part: Part, chosen: torch.Tensor) -> Part:
    return replace(
        part, labels=part.labels[chosen], read=lambda indices: part.read(chosen[indices])
    )
