"""Measures of several studies: accuracy, likeness of maps, and means of known values."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from robustkit import explain
from robustkit.attacks import correct
from robustkit.data import ImageSet
from robustkit.models import Classifier
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
