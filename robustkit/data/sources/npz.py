"""Image sets in one .npz file: anyone's, and the usual ones kept under the data root."""

from __future__ import annotations

from pathlib import Path

from robustkit.data.arrays import Array, one_line, read_npz, to_labels, to_nchw
from robustkit.data.registry import Part, Request, Source, required_root, source
from robustkit.errors import DataError

REQUIRED = ("x_train", "y_train", "x_test", "y_test")
OPTIONAL = ("train_track", "test_track", "classes")


@source("npz", takes_path=True)
def open_npz(request: Request) -> Source:
    """Offer `npz:PATH`; see `read_source` for what the file holds."""
    return read_source(Path(request.argument).expanduser())


def read_source(path: Path, classes: tuple[str, ...] | None = None) -> Source:
    """Read a .npz with x_train, y_train, x_test, y_test as a source.

    Images are uint8 (N,H,W), (N,H,W,C) or (N,C,H,W); labels integers (N,) from 0 on. Optional:
    train_track and test_track (N,), and `classes`, an array of names; without names given here
    or there, the classes are called by their numbers. Raises DataError naming file and key.
    """
    arrays = read_npz(path, REQUIRED, OPTIONAL)
    train, test = (_part(arrays, split, path) for split in ("train", "test"))
    if classes is None:
        classes = _names(arrays, int(train.labels.max()) + 1, path)
    return Source(train, test, classes)


def npz_under_root(request: Request, classes: tuple[str, ...]) -> Source | None:
    """Read `{root}/{name}.npz` with the names of its classes, or return None if it is not there."""
    path = required_root(request) / f"{request.name}.npz"
    return read_source(path, classes) if path.is_file() else None


def not_found(request: Request, files: str, error: Exception) -> DataError:
    """Say that neither the .npz nor the original `files` of a set could be read."""
    root = required_root(request)
    hint = "" if request.download else "; nothing is fetched unless download is asked for"
    return DataError(
        f"no {request.name} in {root}: neither {request.name}.npz nor a readable {files} "
        f"({one_line(error)}){hint}"
    )


def _part(arrays: dict[str, Array], split: str, path: Path) -> Part:
    images = to_nchw(arrays[f"x_{split}"], f"{path}: x_{split}")
    labels = to_labels(arrays[f"y_{split}"], len(images), f"{path}: y_{split}")
    track = arrays.get(f"{split}_track")
    tracks = None
    if track is not None:
        tracks = to_labels(track, len(images), f"{path}: {split}_track")
    return Part(labels, images.__getitem__, tracks)


def _names(arrays: dict[str, Array], count: int, path: Path) -> tuple[str, ...]:
    names = arrays.get("classes")
    if names is None:
        if count > len(arrays["y_train"]):
            raise DataError(
                f"{path}: y_train goes up to {count - 1}, but has only {len(arrays['y_train'])} "
                f"images; labels count the classes from 0 without gaps"
            )
        return tuple(str(number) for number in range(count))
    if names.dtype.kind != "U" or names.ndim != 1:
        raise DataError(f"{path}: classes must be text of shape (K,), not {names.dtype}")
    return tuple(str(name) for name in names)
