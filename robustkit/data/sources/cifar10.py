"""CIFAR-10 (Krizhevsky 2009), read from its binary version.

The version that most libraries fetch is a Python pickle, which is a program; nothing is unpickled
here. The binary version holds the same images in the same order.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from robustkit.data.arrays import Array, to_labels, to_nchw
from robustkit.data.registry import Part, Request, Source, required_root, source
from robustkit.data.sources.npz import not_found, npz_under_root
from robustkit.errors import DataError

CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
FOLDER = "cifar-10-batches-bin"
URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILES = ("test_batch.bin",)
IMAGE_SHAPE = (3, 32, 32)
RECORD = 1 + 3 * 32 * 32  # a label, then the red, green and blue planes


@source("cifar10")
def open_cifar10(request: Request) -> Source:
    """Offer `{root}/cifar10.npz`, else the binary version under the root: uint8 (3,32,32)."""
    found = npz_under_root(request, CLASSES)
    if found is not None:
        return found
    folder = required_root(request) / FOLDER
    try:
        if request.download and not folder.is_dir():
            _download(folder.parent)
        return Source(_part(folder, TRAIN_FILES), _part(folder, TEST_FILES), CLASSES)
    except (RuntimeError, OSError) as error:
        raise not_found(request, FOLDER, error) from error


def _download(root: Path) -> None:
    from torchvision.datasets.utils import download_and_extract_archive

    download_and_extract_archive(URL, str(root), md5=MD5, remove_finished=True)


def _part(folder: Path, names: tuple[str, ...]) -> Part:
    records = np.concatenate([_records(folder / name) for name in names])
    images = to_nchw(records[:, 1:].reshape(-1, *IMAGE_SHAPE), f"{folder}")
    labels = to_labels(records[:, 0], len(images), f"{folder}")
    return Part(labels, images.__getitem__)


def _records(path: Path) -> Array:
    data = np.fromfile(path, dtype=np.uint8)
    if data.size == 0 or data.size % RECORD:
        raise DataError(f"{path} has {data.size} bytes, not a multiple of {RECORD}: cut short?")
    return data.reshape(-1, RECORD)
