"""`small`: three convolutions without batch norm, the laboratory's work horse."""

from __future__ import annotations

from torch import nn

from robustkit.models.layers import chain
from robustkit.models.zoo.registry import ZOO


@ZOO.register("small")
def small(num_classes: int, in_channels: int, image_size: int, *, width: int = 32) -> nn.Module:
    """Three 3x3 convolutions and one linear layer; 66,570 parameters at 3x32x32 and 10 classes.

    `width`, 2·`width` and 2·`width` channels, each followed by ReLU and 2x2 average pooling. No
    sample's output depends on another's, and pooling by averages keeps double backprop cheap.
    """
    side = max(image_size // 8, 1)
    return chain(
        ("stage1", _stage(in_channels, width)),
        ("stage2", _stage(width, 2 * width)),
        ("stage3", _stage(2 * width, 2 * width)),
        ("head", [nn.Flatten(), nn.Linear(2 * width * side**2, num_classes)]),
    )


def _stage(in_channels: int, channels: int) -> list[nn.Module]:
    return [nn.Conv2d(in_channels, channels, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)]
