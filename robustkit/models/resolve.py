"""What a person may name as a model, wherever a verb asks for one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from robustkit.errors import ModelError
from robustkit.models.build import build
from robustkit.models.classifier import Classifier
from robustkit.models.files import load
from robustkit.models.weights import fit_weights, read_weights


def resolve(
    spec: str,
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    classes: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    weights: Path | str | None = None,
    seed: int | None = None,
) -> Classifier:
    """The classifier that `spec` names, for images (in_channels, image_size, image_size).

    `spec` is the path of a model file (`.safetensors`), a name of the zoo, "torchvision:NAME" or
    "package.module:factory"; all but the file are built as by `build` and may be given `weights`:
    a state dict, or another model file of the same architecture. `mean` and `std` should be those
    the weights were trained with. Raises `ModelError` as `build` and `load` do, and when the
    model's classes or input do not fit.
    """
    if spec.endswith(".safetensors"):
        if weights is not None:
            raise ModelError(f"{spec}: a model file has its own weights; leave out {weights}")
        shape = (in_channels, image_size, image_size)
        return load(spec, num_classes=num_classes, input_shape=shape)
    model = build(
        spec,
        num_classes=num_classes,
        in_channels=in_channels,
        image_size=image_size,
        classes=classes,
        mean=mean,
        std=std,
        seed=seed,
    )
    if weights is not None:
        fit_weights(model.net, read_weights(weights), weights)
    return model
