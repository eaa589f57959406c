"""Labelled images in memory: what every command works on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustkit.class_names import distinct
from robustkit.errors import DataError

MOST_CLASSES = 1_000_000  # beyond, a label without a name is no index of a class
CHUNK_BYTES = 64 * 2**20  # pixels handled at once where a set may be larger than memory


def to_unit(images: Tensor) -> Tensor:
    """Turn uint8 pixels into float32 in [0,1], the space that attacks and `eps` live in.

    Raises DataError for any other dtype: floats have crossed the boundary already.

    >>> to_unit(torch.tensor([0, 51, 255], dtype=torch.uint8))
    tensor([0.0000, 0.2000, 1.0000])
    """
    if images.dtype != torch.uint8:
        raise DataError(f"pixels must be uint8 to become [0,1] floats, not {images.dtype}")
    return images.to(torch.float32).div_(255.0)


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images with their labels.

    `images` uint8 (N,C,H,W), or float32 in [0,1] where they lie between the 256 levels, possibly
    memory-mapped; `labels` int64 (N,), indices into `classes`; `tracks` int64 (N,) or None: images
    of one class with one track number are near-duplicates (frames of one video, say) and must not
    be divided between training and validation.

    Raises DataError for a wrong dtype, shape or range, no images, fewer than two classes, or a
    label that names no class.

    >>> images, labels = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1])
    >>> ImageSet(images, labels, ("cat", "dog")).shape
    (1, 4, 4)
    >>> ImageSet(images, labels + 1, ("cat", "dog"))
    Traceback (most recent call last):
    robustkit.errors.DataError: labels range over [1, 2], but 2 classes allow [0, 1]
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    tracks: Tensor | None = None

    def __post_init__(self) -> None:
        _check_images(self.images)
        _check_integers("labels", self.labels, len(self.images))
        if self.tracks is not None:
            _check_integers("tracks", self.tracks, len(self.images))
        if len(self.classes) < 2:
            raise DataError(f"only one class, {self.classes}: a classifier needs at least two")
        if len(set(self.classes)) < len(self.classes):
            raise DataError(f"class names must differ: {', '.join(self.classes)}")
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= len(self.classes):
            raise DataError(
                f"labels range over [{low}, {high}], but {len(self.classes)} classes allow "
                f"[0, {len(self.classes) - 1}]"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    @property
    def num_classes(self) -> int:
        """How many classes a label may name."""
        return len(self.classes)

    def subset(self, indices: Tensor) -> ImageSet:
        """Return the images at `indices` (int64), copied into memory, with the same classes."""
        tracks = None if self.tracks is None else self.tracks[indices]
        return ImageSet(self.images[indices], self.labels[indices], self.classes, tracks)

    def floats(self, indices: Tensor | None = None) -> Tensor:
        """Return all images, or those at `indices`, as float32 (N,C,H,W) in [0,1]."""
        chosen = self.images if indices is None else self.images[indices]
        if chosen.dtype == torch.uint8:
            return to_unit(chosen)
        return chosen.clone() if indices is None else chosen

    def levels(self, task: str) -> Tensor:
        """Return the images as uint8, which `task` needs; raises DataError for floats."""
        if self.images.dtype != torch.uint8:
            raise DataError(
                f"{task} takes pictures in the 256 levels of uint8; these are floats between them"
            )
        return self.images

    def digest(self) -> str:
        """Return the sha256, in hex, of images, labels and class names: what results hang on."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        header = [list(self.images.shape), list(self.classes)]
        if self.images.dtype != torch.uint8:
            header.append([str(self.images.dtype)])
        sha = hashlib.sha256(json.dumps(header).encode())
        for rows in chunks(self.images):
            sha.update(_bytes(self.images[rows]))
        sha.update(_bytes(self.labels))
        return sha.hexdigest()


def numbered_classes(
    labels: Tensor, hints: Mapping[int, str], count: int | None = None
) -> tuple[str, ...]:
    """Return names for classes of which only the labels (N,) are known: hints, else numbers.

    As many as `count` says, without it up to the highest label, and two at least. Raises DataError
    for labels so high that they count no classes.
    """
    highest = int(labels.max()) if len(labels) else 0
    if count is None and highest >= MOST_CLASSES:
        raise DataError(f"labels go up to {highest:,}; they count the classes from 0 on")
    most = max(highest + 1, 2) if count is None else count
    return distinct([hints.get(index, str(index)) for index in range(most)])


def channel_stats(images: ImageSet) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of every channel over all pixels, in [0,1] units.

    Of uint8 images counted from integer histograms, so exact whatever the number of threads; of
    floats summed in double precision, in a fixed order. A channel that is almost constant gets
    1/255, one grey level, as its deviation: dividing by it stays harmless.

    >>> images = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
    >>> channel_stats(ImageSet(images, torch.tensor([0, 1]), ("black", "white")))
    ((0.5,), (0.5,))
    """
    if images.images.dtype != torch.uint8:
        return _float_stats(images.images)
    channels = images.shape[0]
    counts = torch.zeros(channels, 256, dtype=torch.int64)
    for rows in chunks(images.images):
        for channel in range(channels):
            values = images.images[rows, channel].flatten()
            counts[channel] += torch.bincount(values, minlength=256)
    share = counts.double() / counts.sum(dim=1, keepdim=True)
    levels = torch.arange(256, dtype=torch.float64) / 255
    mean = share @ levels
    variance = (share * (levels - mean[:, None]).square()).sum(dim=1)
    std = variance.sqrt().clamp_min(1 / 255)
    return tuple(mean.tolist()), tuple(std.tolist())


def _float_stats(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return `channel_stats` of float32 (N,C,H,W), in two passes by one thread."""
    count = images[:, 0].numel()
    mean = sum(_channel_sums(images[rows]) for rows in chunks(images)) / count
    spread = sum(_channel_sums(images[rows], mean) for rows in chunks(images)) / count
    return tuple(mean.tolist()), tuple(np.sqrt(spread).clip(1 / 255).tolist())


def _channel_sums(images: Tensor, mean: NDArray[np.float64] | None = None) -> Any:
    """Return sums (C,) of the values, or of their squared distances from `mean` (C,)."""
    values = images.numpy().astype(np.float64)
    if mean is not None:
        values = (values - mean[:, None, None]) ** 2
    return values.sum(axis=(0, 2, 3))


def chunks(images: Tensor) -> Iterator[slice]:
    """Yield slices that cover `images` (N,...), each small enough to hold in memory."""
    step = max(1, CHUNK_BYTES // max(1, images[0].nbytes))
    for start in range(0, len(images), step):
        yield slice(start, start + step)


def _check_images(images: Tensor) -> None:
    if images.ndim != 4 or images.dtype not in (torch.uint8, torch.float32):
        raise DataError(
            f"images must be uint8 (N,C,H,W) or float32 in [0,1], not {images.dtype} "
            f"{tuple(images.shape)}" + _range(images)
        )
    if images.numel() == 0:
        raise DataError(f"no images: the shape is {tuple(images.shape)}")
    if images.dtype == torch.float32:
        for rows in chunks(images):
            check_unit(images[rows])


def check_unit(images: Tensor) -> None:
    """Raise DataError unless all values of float `images` lie in [0,1]."""
    low, high = (item.item() for item in images.aminmax())
    if not (low >= 0 and high <= 1):
        raise DataError(
            f"float images must lie in [0,1], not in [{low:g}, {high:g}]; leave Normalize out of "
            f"the transform and give mean and std to models.wrap"
        )


def _range(values: Tensor) -> str:
    if values.numel() == 0 or values.is_complex():
        return ""
    return f" over [{values.min().item():g}, {values.max().item():g}]"


def _check_integers(name: str, values: Tensor, count: int) -> None:
    if values.dtype != torch.int64 or values.shape != (count,):
        raise DataError(
            f"{name} must be int64 ({count},), one per image, not {values.dtype} "
            f"{tuple(values.shape)}"
        )


def _bytes(values: Tensor) -> memoryview:
    return values.contiguous().cpu().numpy().data.cast("B")
