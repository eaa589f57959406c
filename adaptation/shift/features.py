"""The features by which domains are compared: a detector's, or any classifier's."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from adaptation.detectors import Detector
from robustkit.compute import device_of
from robustkit.data import ImageSet, batches, to_unit
from robustkit.data.detection import DetectionSet
from robustkit.data.pictures import shaped
from robustkit.errors import ModelError
from robustkit.geometry import Geometry
from robustkit.models import Classifier
from robustkit.models.state import state_preserved

BATCH = 32


def detector_features(model: Detector, images: DetectionSet) -> NDArray[np.float64]:
    """Return the means (N,C) over places of the coarsest maps; the model is left as it was."""
    parts = []
    with state_preserved(model), torch.no_grad():
        for start in range(0, len(images), BATCH):
            rows = range(start, min(start + BATCH, len(images)))
            pixels = [to_unit(images.image(row)).to(device_of(model)) for row in rows]
            maps = list(model.features(pixels).values())[-1]
            parts.append(maps.mean(dim=(2, 3)).double().cpu())
    return torch.cat(parts).numpy()


def classifier_features(model: Classifier, images: ImageSet | DetectionSet) -> NDArray[np.float64]:
    """Return the inputs (N,d) of a classifier's last linear layer; the model is left as it was.

    Pictures of a detection set are shaped as the model's own pipeline shapes them or, where that is
    not known, to its input size. Raises `ModelError` for one that has no linear layer, and for
    pictures of different sizes where it takes any.
    """
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ModelError("a classifier without a linear layer: no telling what its features are")
    last = linear[-1]
    features: list[torch.Tensor] = []

    def keep(_: nn.Module, inputs: tuple[torch.Tensor, ...], __: torch.Tensor) -> None:
        features.append(inputs[0].flatten(1).double().cpu())

    handle = last.register_forward_hook(keep)
    try:
        with state_preserved(model), torch.no_grad():
            for rows in batches(len(images), BATCH):
                model(_floats(model, images, rows).to(device_of(model)))
    finally:
        handle.remove()
    return torch.cat(features).numpy()


def _floats(model: Classifier, images: ImageSet | DetectionSet, rows: Tensor) -> Tensor:
    """Return images (n,C,H,W) in [0,1] as the model takes them."""
    if isinstance(images, ImageSet):
        return images.floats(rows)
    preprocessing = model.card.preprocessing
    geometry, size = preprocessing.geometry, preprocessing.input_size
    pixels = [images.image(int(row)) for row in rows]
    if geometry is None and size is not None:
        geometry = Geometry(size, size, preprocessing.interpolation or "bilinear")
    if geometry is not None:
        pixels = [_shaped(each, geometry) for each in pixels]
    if len({each.shape for each in pixels}) > 1:
        raise ModelError("this classifier takes pictures of any size, and those here differ")
    return torch.stack([to_unit(each) for each in pixels])


def _shaped(image: Tensor, geometry: Geometry) -> Tensor:
    """Return uint8 (3,H,W) resized and cropped as a picture file is, whatever its size."""
    picture = Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))
    return torch.from_numpy(np.array(shaped(picture, geometry))).permute(2, 0, 1)
