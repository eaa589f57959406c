"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), read from their binary versions.

The version that most libraries fetch is a Python pickle, which is a program; nothing is unpickled
here. The binary version holds the same images in the same order.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robustkit.class_names import CIFAR_10, CIFAR_100
from robustkit.data.arrays import Array, map_npy, read_bytes, to_labels, to_nchw
from robustkit.data.pictures import StoredPictures
from robustkit.data.sources.base import Part, Request, Source, required_root, source
from robustkit.data.sources.npz import check_there, not_found, npz_under_root
from robustkit.errors import DataError, did_you_mean

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
    """Return the images of some files together, or None where none of these is there."""
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


FOLDER = "CIFAR-10-C"
BENCHMARK = (
    *("gaussian_noise", "shot_noise", "impulse_noise"),
    *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness"),
    *("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)
# Held back by the authors for choosing hyper-parameters; read where they are asked for.
EXTRA = ("gaussian_blur", "saturate", "spatter", "speckle_noise")
SEVERITIES = 5  # the files hold one block of images for each, in this order
SEVERITY = "5"


@source("cifar10c", options=("corruption", "severity"))
def open_cifar10c(request: Request) -> Source:
    """Offer `{root}/CIFAR-10-C`: options `corruption=NAME[,NAME]` and `severity=1` to 5.

    Without `corruption`, those of the benchmark's 15 that are there, one after the other; severity
    is 5 by default. The files stay on disk. Raises DataError naming the file or option at fault.
    """
    folder = required_root(request) / FOLDER
    if not folder.is_dir():
        raise DataError(f"no cifar10c in {folder.parent}: no folder {FOLDER}")
    severity = _severity(request.options.get("severity", SEVERITY))
    names = _corruptions(folder, request.options.get("corruption"))
    labels = map_npy(folder / "labels.npy")
    if labels.ndim != 1 or len(labels) % SEVERITIES or not len(labels):
        raise DataError(
            f"{folder / 'labels.npy'} is {labels.shape}; one label a picture is needed, and as "
            f"many pictures of each of the {SEVERITIES} severities"
        )
    count = len(labels) // SEVERITIES
    chosen = slice((severity - 1) * count, severity * count)
    arrays = [_pixels(folder / f"{name}.npy", len(labels))[chosen] for name in names]
    label_tensor = to_labels(np.asarray(labels[chosen]), count, str(folder / "labels.npy"))

    def pick(indices: Tensor) -> Tensor:
        rows = np.empty((len(indices), *IMAGE_SHAPE), dtype=np.uint8)
        for row, index in enumerate(indices.tolist()):
            rows[row] = arrays[index // count][index % count].transpose(2, 0, 1)
        return torch.from_numpy(rows)

    return Source(
        train=None,
        test=Part(label_tensor.repeat(len(names)), StoredPictures(pick, IMAGE_SHAPE)),
        classes=CLASSES,
        notes=(f"corruptions at severity {severity}: {', '.join(names)}",),
    )


def _severity(text: str) -> int:
    if text not in {str(number) for number in range(1, SEVERITIES + 1)}:
        raise DataError(f"severity must be from 1 to {SEVERITIES}, not '{text}'")
    return int(text)


def _corruptions(folder: Path, given: str | None) -> list[str]:
    if given is None:
        present = [name for name in BENCHMARK if (folder / f"{name}.npy").is_file()]
        if not present:
            raise DataError(f"{folder} has no file of a corruption, such as {BENCHMARK[0]}.npy")
        return present
    names = given.split(",")
    for name in names:
        if name not in (*BENCHMARK, *EXTRA):
            raise DataError(f"unknown corruption '{name}'{did_you_mean(name, BENCHMARK + EXTRA)}")
        if names.count(name) > 1:
            raise DataError(f"the corruption '{name}' is named twice")
    return names


def _pixels(path: Path, count: int) -> Array:
    pixels = map_npy(path)
    channels, height, width = IMAGE_SHAPE
    wanted = (count, height, width, channels)
    if pixels.dtype != np.uint8 or pixels.shape != wanted:
        raise DataError(f"{path} is {pixels.dtype} {pixels.shape}, not uint8 {wanted}")
    return pixels
