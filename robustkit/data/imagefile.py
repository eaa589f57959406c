"""One file of images and labels, to be used beside a data set's own splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from robustkit.data.arrays import read_npz, to_labels, to_nchw
from robustkit.data.imageset import ImageSet
from robustkit.errors import DataError


def read_image_file(path: Path, like: ImageSet) -> ImageSet:
    """The `images` and `labels` of a .npz file, with the image shape and classes of `like`.

    Images are uint8, or float in [0,1], which is rounded to the nearest of 256 levels; (N,C,H,W),
    (N,H,W,C) or (N,H,W). Raises DataError naming the file and what does not fit.
    """
    arrays = read_npz(path, ("images", "labels"), ())
    pixels = arrays["images"]
    if pixels.dtype.kind == "f":
        low, high = (float(pixels.min()), float(pixels.max())) if pixels.size else (0.0, 0.0)
        if not (low >= 0 and high <= 1):
            raise DataError(f"{path}: float images must lie in [0,1], not in [{low:g}, {high:g}]")
        pixels = np.round(255 * pixels).astype(np.uint8)
    images = to_nchw(pixels, f"{path}: images")
    labels = to_labels(arrays["labels"], len(images), f"{path}: labels")
    if tuple(images.shape[1:]) != like.shape:
        raise DataError(f"{path}: images are {tuple(images.shape[1:])}, the data's {like.shape}")
    if int(labels.max()) >= like.num_classes:
        raise DataError(
            f"{path}: label {int(labels.max())}; the data's {like.num_classes} classes allow 0 to "
            f"{like.num_classes - 1}"
        )
    return ImageSet(images, labels, like.classes)
