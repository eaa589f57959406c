"""What a net sees of an image, as one vector."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from adaptation.detectors import Detector
from robustkit.attacks import pure
from robustkit.compute import device_of
from robustkit.data import ImageSet, batches, to_unit
from robustkit.data.detection import DetectionSet
from robustkit.errors import ModelError
from robustkit.models import Classifier

BATCH = 32


def detector_features(model: Detector, images: DetectionSet) -> NDArray[np.float64]:
    """Means over places of the coarsest maps of the backbone, (N,C), the model left as it was."""
    parts = []
    with pure(model), torch.no_grad():
        for start in range(0, len(images), BATCH):
            rows = range(start, min(start + BATCH, len(images)))
            pixels = [to_unit(images.image(row)).to(device_of(model)) for row in rows]
            maps = list(model.features(pixels).values())[-1]
            parts.append(maps.mean(dim=(2, 3)).double().cpu())
    return torch.cat(parts).numpy()


def classifier_features(model: Classifier, images: ImageSet) -> NDArray[np.float64]:
    """What goes into the last linear layer of a classifier, (N,d), the model left as it was.

    Raises `ModelError` for one that has none.
    """
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ModelError("a classifier without a linear layer: no telling what its features are")
    last = linear[-1]
    kept: list[torch.Tensor] = []

    def keep(_: nn.Module, given: tuple[torch.Tensor, ...], __: torch.Tensor) -> None:
        kept.append(given[0].flatten(1).double().cpu())

    handle = last.register_forward_hook(keep)
    try:
        with pure(model), torch.no_grad():
            for rows in batches(len(images), BATCH):
                model(images.floats(rows).to(device_of(model)))
    finally:
        handle.remove()
    return torch.cat(kept).numpy()


__all__ = ["classifier_features", "detector_features"]
