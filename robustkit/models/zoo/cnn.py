"""The plain convolutional networks of the source documents: `cnn3` and `cnn6_2`."""

from __future__ import annotations

from torch import nn

from robustkit.models.layers import chain
from robustkit.models.zoo.registry import ZOO


@ZOO.register("cnn3")
def cnn3(num_classes: int, in_channels: int, image_size: int, *, filters: int = 3) -> nn.Module:
    """Two valid convolutions (5x5, 3x3) of `filters` filters, each pooled by 2, and a linear layer.

    The network whose filters' contributions are studied: exactly 922 parameters at 1x28x28 and 10
    classes, about a fifth of LeNet's. Max pooling, ReLU.
    """
    side = max(((image_size - 4) // 2 - 2) // 2, 1)
    return chain(
        ("stage1", [nn.Conv2d(in_channels, filters, 5), nn.ReLU(), nn.MaxPool2d(2)]),
        ("stage2", [nn.Conv2d(filters, filters, 3), nn.ReLU(), nn.MaxPool2d(2)]),
        ("head", [nn.Flatten(), nn.Linear(filters * side**2, num_classes)]),
    )


@ZOO.register("cnn6_2")
def cnn6_2(num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    """Six convolutions and two linear layers, the network that Arachne and its successors repair.

    3x3 convolutions of 32, 32, 64, 64, 128, 128 channels, alternately with same and valid padding;
    after each pair max pooling by 2 and dropout 0.2; then 512 units with dropout 0.5. At 3x32x32
    the kernels hold 553,824 weights (biases aside) for 10 classes and 570,720 for 43.
    """
    side = image_size
    for _ in range(3):
        side = (side - 2) // 2
    return chain(
        ("stage1", _pair(in_channels, 32)),
        ("stage2", _pair(32, 64)),
        ("stage3", _pair(64, 128)),
        ("hidden", [nn.Flatten(), nn.Linear(128 * max(side, 1) ** 2, 512), nn.ReLU()]),
        ("head", [nn.Dropout(0.5), nn.Linear(512, num_classes)]),
    )


def _pair(in_channels: int, channels: int) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.2),
    ]
