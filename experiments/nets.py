"""The networks that options name, made for the images they are to see."""

from __future__ import annotations

from robustkit import models
from robustkit.data import Splits, channel_stats
from robustkit.errors import DataError


def resolve_net(
    spec: str, splits: Splits, *, seed: int, weights: str | None = None
) -> models.Classifier:
    """The classifier that `spec` names, normalising as the training split says.

    Raises `ModelError` as `robustkit.models.resolve`, and `DataError` for images that are not
    square, which no network here takes: before there is a run folder, not in the first step.
    """
    channels, height, width = splits.train.shape
    if height != width:
        raise DataError(
            f"{splits.name}: images are {width}x{height} pixels, and networks take square ones; "
            f"crop them or, in a folder of images, add '?size={min(height, width)}' to its path"
        )
    mean, std = channel_stats(splits.train)
    return models.resolve(
        spec,
        num_classes=splits.train.num_classes,
        in_channels=channels,
        image_size=height,
        classes=splits.train.classes,
        mean=mean,
        std=std,
        weights=weights,
        seed=seed,
    )
