"""Any module as a model, with the preprocessing it was trained with and its classes' names."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from robustkit.compute import device_of
from robustkit.errors import ModelError
from robustkit.geometry import Geometry, Size
from robustkit.models.card import WRAPPED, Card
from robustkit.models.classifier import Classifier
from robustkit.models.preprocessing import Preprocessing


def wrap(
    module: nn.Module,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    input_size: int | Size | None = None,
    classes: Sequence[str] | None = None,
    interpolation: str = "bilinear",
    channel_order: str = "rgb",
    geometry: Geometry | None = None,
) -> Classifier:
    """`module` as a classifier of pictures (N,C,H,W) in [0,1]; it is shared, not copied.

    `mean` and `std`, one number per channel in [0,1] units, are what the module was trained with;
    leave them out where it normalises by itself. `input_size` is the side, or (height, width), that
    it takes: pictures of another size are resized to it by `interpolation`, differentiably; without
    it the module gets pictures as they come. `classes` are the names of its logits. Raises
    `ModelError` for what does not fit together.

    >>> import torch
    >>> net = wrap(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), mean=(0.5,) * 3, std=(0.25,) * 3)
    >>> tuple(net(torch.rand(5, 3, 2, 2)).shape)
    (5, 2)
    """
    if (mean is None) != (std is None):
        raise ModelError("wrap: mean and std are given together")
    if isinstance(module, Classifier):
        raise ModelError(
            "wrap: this is a model already, with its own preprocessing; wrap its .net to change it"
        )
    size = (input_size, input_size) if isinstance(input_size, int) else input_size
    preprocessing = Preprocessing(
        mean=tuple(mean or ()),
        std=tuple(std or ()),
        input_size=size,
        interpolation=interpolation,
        channel_order=channel_order,
        geometry=geometry,
    )
    kind = type(module)
    card = Card(
        architecture={"family": WRAPPED, "module": f"{kind.__module__}.{kind.__qualname__}"},
        classes=tuple(classes or ()),
        input_shape=(len(preprocessing.mean), *(size or (0, 0))),
        preprocessing=preprocessing,
    )
    made = Classifier(module, card)
    made.training = made.preprocess.training = module.training  # not of the module's own parts
    made.preprocess.to(device_of(module))
    return made
