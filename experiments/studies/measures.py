"""Measures of several studies: accuracy, likeness of maps, and means of known values."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from robustkit import data, explain
from robustkit.attacks import correct
from robustkit.data import ImageSet
from robustkit.models import Classifier
from robustkit.runs import atomic_path
from robustkit.stats import Mean, mean_over_images


class KnownMean(Mean, frozen=True, kw_only=True):
    """A mean over the images that have a value; `without` counts those that have none."""

    without: int = 0


def known_mean(values: Tensor) -> KnownMean:
    """Return mean and interval over the images whose value (N,) is not NaN."""
    measured = values[~values.isnan()]
    mean = mean_over_images(measured.tolist())
    missing = len(values) - len(measured)
    return KnownMean(value=mean.value, n=mean.n, low=mean.low, high=mean.high, without=missing)


def accuracy(net: Classifier, images: ImageSet) -> float:
    """Return the share of images that the net classifies correctly."""
    return float(correct(net, images).double().mean())


def jointly_correct(nets: Iterable[Classifier], images: ImageSet, count: int) -> Tensor:
    """Return the indices, int64 (n,), of the first `count` images that all nets get right."""
    right = torch.ones(len(images), dtype=torch.bool)
    for net in nets:
        right &= correct(net, images)
    return torch.nonzero(right).squeeze(1)[:count]


def enlarged_gradcam(trace: explain.Trace) -> Tensor:
    """Return the last stage's Grad-CAM at the size of the images, (N,H,W)."""
    height, width = trace.images.shape[2:]
    return explain.enlarged(list(explain.gradcam(trace).values())[-1], (height, width))


def spearman_by_image(first: Tensor, second: Tensor) -> Tensor:
    """Return Spearman's correlation (N,) of maps (N,H,W), image by image; NaN for constant maps."""
    similarities = [explain.spearman(a[None], b[None]) for a, b in zip(first, second, strict=True)]
    return torch.tensor(
        [
            similarity_of_image.mean if similarity_of_image.values else torch.nan
            for similarity_of_image in similarities
        ]
    )


def small_cifar10(path: Path, *, train: int | None = None, test: int | None = None) -> str:
    """Return CIFAR-10 at half its resolution as a `--data` argument, written to `path` once.

    The first `train` and `test` images alone, where these are given.
    """
    if not path.exists():
        splits = data.load("cifar10", seed=0)
        parts = [splits.train, splits.val]
        pixels = np.concatenate([_halved(images) for images in parts])
        labels = np.concatenate([images.labels.numpy() for images in parts])
        arrays = {
            "x_train": pixels[:train],
            "y_train": labels[:train],
            "x_test": _halved(splits.test)[:test],
            "y_test": splits.test.labels.numpy()[:test],
        }
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)
    return f"npz:{path}"


def _halved(images: ImageSet) -> Any:
    _, height, width = images.shape
    halved = F.interpolate(images.images.float(), size=(height // 2, width // 2), mode="area")
    return halved.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
