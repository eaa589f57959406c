"""Street View House Numbers (Netzer et al. 2011), cropped digits in 32×32 pixels."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from robustkit.data.arrays import Array, one_line, to_labels, to_nchw
from robustkit.data.pictures import StoredPictures
from robustkit.data.sources.base import Part, Request, Source, required_root, source
from robustkit.data.sources.npz import not_found, npz_under_root
from robustkit.errors import DataError
from robustkit.reading import open_bounded

CLASSES = tuple("0123456789")
FOLDER = "svhn"
FILES = {"train": "train_32x32.mat", "test": "test_32x32.mat"}


@source("svhn")
def open_svhn(request: Request) -> Source:
    """Offer `{root}/svhn.npz`, else torchvision's .mat files in `{root}/svhn` or `{root}`.

    Images are uint8 (3,32,32). The label 10, as the files have it, is the digit 0. A source of one
    of the two files has that part alone.
    """
    opened = npz_under_root(request, CLASSES)
    if opened is not None:
        return opened
    root = required_root(request)
    try:
        if request.download and not all(_file(root, name) for name in FILES.values()):
            _download(root / FOLDER)
        parts = {
            part: _part(path)
            for part, name in FILES.items()
            if (path := _file(root, name)) is not None
        }
        if not parts:
            raise FileNotFoundError(f"no {FILES['test']} in {root / FOLDER} or {root}")
    except (RuntimeError, OSError) as error:
        raise not_found(request, f"{FOLDER}/{FILES['test']}", error) from error
    return Source(parts.get("train"), parts.get("test"), CLASSES)


def _file(root: Path, name: str) -> Path | None:
    return next(
        (path for path in (root / FOLDER / name, root / name) if os.path.lexists(path)), None
    )


def _download(folder: Path) -> None:
    from torchvision import datasets

    for split in FILES:
        datasets.SVHN(folder, split, download=True)


def _part(path: Path) -> Part:
    arrays = _arrays(path)
    pixels = arrays["X"]
    if pixels.ndim != 4 or pixels.shape[:3] != (32, 32, 3):
        raise DataError(f"{path}: X is {pixels.shape}, not (32,32,3,N)")
    images = to_nchw(pixels.transpose(3, 2, 0, 1), f"{path}: X")
    digits = arrays["y"].reshape(-1)
    labels = to_labels(np.where(digits == 10, 0, digits), len(images), f"{path}: y")
    return Part(labels, StoredPictures.of(images))


def _arrays(path: Path) -> dict[str, Array]:
    from scipy.io import loadmat

    try:
        with open_bounded(path, error=DataError) as file:
            matlab = loadmat(file, variable_names=("X", "y"))
    except (OSError, DataError):
        raise
    # A damaged file ends in whatever its bytes happen to lead to.
    except Exception as error:
        raise DataError(f"{path} cannot be read as a .mat file: {one_line(error)}") from error
    for key in ("X", "y"):
        if not isinstance(matlab.get(key), np.ndarray):
            raise DataError(f"{path} has no array '{key}'; it needs X and y")
    return {key: matlab[key] for key in ("X", "y")}
