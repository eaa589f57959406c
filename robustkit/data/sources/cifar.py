"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), read from their binary versions.

The version that most libraries fetch is a Python pickle, which is a program; nothing is unpickled
here. The binary version holds the same images in the same order.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robustkit.data.arrays import Array, read_bytes, to_labels, to_nchw
from robustkit.data.pictures import StoredPictures
from robustkit.data.registry import Part, Request, Source, required_root, source
from robustkit.data.sources.npz import check_there, not_found, npz_under_root
from robustkit.errors import DataError
from robustkit.naming import CIFAR_10, CIFAR_100

CLASSES, FINE_CLASSES = CIFAR_10, CIFAR_100
IMAGE_SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32  # the red, green and blue planes


@dataclass(frozen=True)
class BinaryVersion:
    """Where a set's records lie, and that the last of `label_bytes` before the pixels counts."""

    folder: str
    archive: str
    md5: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    label_bytes: int


TEN = BinaryVersion(
    "cifar-10-batches-bin",
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "c32a1d4ab5d03f1284b67883e8d87530",
    tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    ("test_batch.bin",),
    label_bytes=1,
)
HUNDRED = BinaryVersion(
    "cifar-100-binary",
    "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    "03b5dce01913d631647c71ecec9e9cb8",
    ("train.bin",),
    ("test.bin",),
    label_bytes=2,  # the coarse label, then the fine one
)


@source("cifar10")
def open_cifar10(request: Request) -> Source:
    """Offer `{root}/cifar10.npz`, else the binary version under the root: uint8 (3,32,32)."""
    return npz_under_root(request, CLASSES) or _from_binary(request, TEN, CLASSES)


@source("cifar100")
def open_cifar100(request: Request) -> Source:
    """Offer `{root}/cifar100.npz`, else the binary version, by its fine labels: uint8 (3,32,32)."""
    return npz_under_root(request, FINE_CLASSES) or _from_binary(request, HUNDRED, FINE_CLASSES)


def _from_binary(request: Request, version: BinaryVersion, classes: tuple[str, ...]) -> Source:
    folder = required_root(request) / version.folder
    try:
        if request.download and not folder.is_dir():
            _download(folder.parent, version)
        train, test = (_part(folder, names, version) for names in (version.train, version.test))
        if train is None and test is None:
            check_there([folder / version.train[0]])
        return Source(train, test, classes)
    except (RuntimeError, OSError) as error:
        raise not_found(request, version.folder, error) from error


def _download(root: Path, version: BinaryVersion) -> None:
    from torchvision.datasets.utils import download_and_extract_archive

    download_and_extract_archive(version.archive, str(root), md5=version.md5, remove_finished=True)


def _part(folder: Path, names: tuple[str, ...], version: BinaryVersion) -> Part | None:
    """The images of some files together, or None where none of these is there."""
    if not any(os.path.lexists(folder / name) for name in names):
        return None
    check_there(folder / name for name in names)
    records = np.concatenate([_records(folder / name, version.label_bytes) for name in names])
    pixels = records[:, version.label_bytes :].reshape(-1, *IMAGE_SHAPE)
    images = to_nchw(pixels, f"{folder}")
    labels = to_labels(records[:, version.label_bytes - 1], len(images), f"{folder}")
    return Part(labels, StoredPictures.of(images))


def _records(path: Path, label_bytes: int) -> Array:
    data = read_bytes(path)
    record = label_bytes + PIXELS
    if data.size == 0 or data.size % record:
        raise DataError(f"{path} has {data.size} bytes, not a multiple of {record}: cut short?")
    return data.reshape(-1, record)
