"""`small`: three convolutions without batch norm, the laboratory's work horse."""

from __future__ import annotations

from torch import nn

from robustkit.models.zoo.registry import register


@register("small")
def small(num_classes: int, in_channels: int, image_size: int, *, width: int = 32) -> nn.Module:
    """Three 3x3 convolutions of `width`, 2·`width` and 2·`width` channels, each followed by ReLU
    and 2x2 average pooling, and one linear layer; 66,570 weights at 3x32x32 and 10 classes.

    No sample's output depends on another's, and pooling by averages keeps double backprop cheap.
    """
    side = image_size // 8
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(2 * width, 2 * width, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * width * side * side, num_classes),
    )
