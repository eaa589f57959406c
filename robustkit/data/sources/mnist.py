"""Handwritten digits (LeCun et al. 1998) and its drop-in of clothes (Xiao et al. 2017)."""

from __future__ import annotations

import math
from pathlib import Path

from robustkit.data.arrays import Array, read_bytes, to_labels, to_nchw
from robustkit.data.pictures import StoredPictures
from robustkit.data.sources.base import Part, Request, Source, required_root, source
from robustkit.data.sources.npz import check_there, not_found, npz_under_root
from robustkit.errors import DataError

DIGITS = tuple("0123456789")
CLOTHES = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


@source("mnist")
def open_mnist(request: Request) -> Source:
    """Offer `{root}/mnist.npz`, else the idx files `{root}/MNIST/raw/*-ubyte`: uint8 (1,28,28)."""
    return npz_under_root(request, DIGITS) or _from_idx(request, "MNIST", DIGITS)


@source("fashion_mnist")
def open_fashion_mnist(request: Request) -> Source:
    """Offer `{root}/fashion_mnist.npz`, else `{root}/FashionMNIST/raw/*-ubyte`: uint8 (1,28,28)."""
    return npz_under_root(request, CLOTHES) or _from_idx(request, "FashionMNIST", CLOTHES)


def _from_idx(request: Request, dataset: str, classes: tuple[str, ...]) -> Source:
    folder = required_root(request) / dataset / "raw"
    try:
        if request.download:
            _download(required_root(request), dataset)
        return Source(_part(folder, "train"), _part(folder, "t10k"), classes)
    except (RuntimeError, OSError) as error:
        raise not_found(request, f"{dataset}/raw", error) from error


def _download(root: Path, dataset: str) -> None:
    from torchvision import datasets

    getattr(datasets, dataset)(root, download=True)  # fetches nothing that is there already


def _part(folder: Path, prefix: str) -> Part:
    images_path = folder / f"{prefix}-images-idx3-ubyte"
    labels_path = folder / f"{prefix}-labels-idx1-ubyte"
    check_there((images_path, labels_path))
    images = to_nchw(read_idx(images_path, 3), str(images_path))
    labels = to_labels(read_idx(labels_path, 1), len(images), str(labels_path))
    return Part(labels, StoredPictures.of(images))


def read_idx(path: Path, ndim: int) -> Array:
    """Read a file of unsigned bytes in the idx format: 0, 0, 8, ndim, then the sizes and the data.

    Raises DataError for another type or rank, or data that is shorter or longer than it says.
    """
    data = read_bytes(path)
    start = 4 + 4 * ndim
    if len(data) < start or data[:4].tolist() != [0, 0, 8, ndim]:
        raise DataError(f"{path} is no idx file of unsigned bytes with {ndim} dimensions")
    shape = tuple(data[4:start].view(">u4").tolist())
    if len(data) - start != math.prod(shape):
        raise DataError(f"{path} says {shape}, but holds {len(data) - start} bytes: cut short?")
    return data[start:].reshape(shape)
