"""Image sets in one .npz file: anyone's, and the usual ones kept under the data root."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from robustkit.data.arrays import Array, one_line, read_npz, to_labels, to_nchw
from robustkit.data.pictures import StoredPictures
from robustkit.data.sources.base import PARTS, Part, Request, Source, required_root, source
from robustkit.errors import DataError
from robustkit.reading import typed_path

OPTIONAL = (*(f"{part}_track" for part in PARTS), "classes")


@source("npz", takes_path=True)
def open_npz(request: Request) -> Source:
    """Offer `npz:PATH`; see `read_source` for what the file holds."""
    return read_source(typed_path(request.argument, error=DataError))


def read_source(path: Path, classes: tuple[str, ...] | None = None) -> Source:
    """Read a .npz with any of the pairs x_train, y_train; x_val, y_val; x_test, y_test.

    Images are uint8 (N,H,W), (N,H,W,C) or (N,C,H,W); labels integers (N,) from 0 on. Optional:
    train_track, val_track and test_track (N,), and `classes`, an array of names; without names
    given here or there, the training labels tell how many classes there are, and each is called
    by its number. Raises DataError naming file and key.
    """
    arrays = read_npz(path, _needed, OPTIONAL)
    parts = {part: _part(arrays, part, path) for part in PARTS if f"x_{part}" in arrays}
    classes = classes or _names(arrays, path)
    if classes is None and "train" in parts:
        classes = _numbers(parts["train"].labels, path)
    return Source(parts.get("train"), parts.get("test"), classes, val=parts.get("val"))


def npz_under_root(request: Request, classes: tuple[str, ...]) -> Source | None:
    """Read `{root}/{name}.npz` with the names of its classes, or return None if it is not there."""
    path = required_root(request) / f"{request.name}.npz"
    return read_source(path, classes) if os.path.lexists(path) else None


def check_there(files: Iterable[Path]) -> None:
    """Raise `FileNotFoundError` for the first of `files` that is not there at all."""
    for file in files:
        if not os.path.lexists(file):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(file))


def not_found(request: Request, files: str, error: Exception) -> DataError:
    """Say that neither the .npz nor the original `files` of a set could be read."""
    root = required_root(request)
    hint = "" if request.download else "; nothing is fetched unless download is asked for"
    return DataError(
        f"no {request.name} in {root}: neither {request.name}.npz nor a readable {files} "
        f"({one_line(error)}){hint}"
    )


def _needed(held: set[str]) -> tuple[str, ...]:
    """Return the keys that a file with the keys `held` must have: pairs, and at least one."""
    pairs = [f"{key}_{part}" for part in PARTS for key in ("x", "y") if held & _pair(part)]
    return tuple(pairs) or ("x_test", "y_test")


def _pair(part: str) -> set[str]:
    return {f"x_{part}", f"y_{part}"}


def _part(arrays: dict[str, Array], split: str, path: Path) -> Part:
    images = to_nchw(arrays[f"x_{split}"], f"{path}: x_{split}")
    labels = to_labels(arrays[f"y_{split}"], len(images), f"{path}: y_{split}")
    track = arrays.get(f"{split}_track")
    tracks = None
    if track is not None:
        tracks = to_labels(track, len(images), f"{path}: {split}_track")
    return Part(labels, StoredPictures.of(images), tracks)


def _names(arrays: dict[str, Array], path: Path) -> tuple[str, ...] | None:
    names = arrays.get("classes")
    if names is None:
        return None
    if names.dtype.kind != "U" or names.ndim != 1:
        raise DataError(f"{path}: classes must be text of shape (K,), not {names.dtype}")
    return tuple(str(name) for name in names)


def _numbers(labels: Tensor, path: Path) -> tuple[str, ...]:
    count = int(labels.max()) + 1
    if count > len(labels):
        raise DataError(
            f"{path}: y_train goes up to {count - 1}, but has only {len(labels)} "
            f"images; labels count the classes from 0 without gaps"
        )
    return tuple(str(number) for number in range(count))
