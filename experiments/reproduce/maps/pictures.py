"""The user's own pictures, for a net that knows ImageNet's classes."""

from __future__ import annotations

from pathlib import Path

from robustkit.attacks import predict
from robustkit.data import ImageSet, find_images, read_images, survey
from robustkit.errors import DataError
from robustkit.models import Classifier

PICTURES = "pictures:"  # how a folder of them is told from a data set
SIDE = 224


def own_pictures(model: Classifier, folder: Path, count: int) -> ImageSet:
    """The first `count` pictures in `folder` as the model's input, labelled by its own answers.

    They are resized to its square without keeping their aspect. Raises `DataError` for a folder
    without any, and for a file that cannot be read.
    """
    files = find_images(folder)[:count]
    if not files:
        raise DataError(f"{folder}: no pictures there")
    images = read_images(files, survey(files, model.card.input_shape[1]))
    if images.shape[1] == 1:
        images = images.expand(-1, 3, -1, -1).contiguous()
    return ImageSet(images, predict(model, images).argmax(dim=1), model.card.classes)
