"""VGG networks (Simonyan & Zisserman 2015) for small images, with batch norm."""

from __future__ import annotations

from torch import nn

from robustkit.models.layers import GlobalAverage, chain, conv_bn
from robustkit.models.zoo.registry import ZOO


@ZOO.register("vgg3")
def vgg3(num_classes: int, in_channels: int, image_size: int, *, width: int = 32) -> nn.Module:
    """Three 3x3 convolutions, each max-pooled; 94,762 parameters for 10 classes and 3 channels.

    The shallowest of the family: some 70 % on CIFAR-10 within minutes on a CPU, and nets trained
    from other seeds share its weaknesses, as deep narrow ones do not. Images of 8 pixels or more.
    """
    return _vgg(num_classes, in_channels, width, depths=(1, 1, 1))


@ZOO.register("vgg5")
def vgg5(num_classes: int, in_channels: int, image_size: int, *, width: int = 32) -> nn.Module:
    """Five 3x3 convolutions in three max-pooled stages; 279,466 parameters for 10 classes.

    Some 74 % on CIFAR-10 within minutes at `width` 24. Images of 8 pixels or more.
    """
    return _vgg(num_classes, in_channels, width, depths=(1, 2, 2))


@ZOO.register("vgg11")
def vgg11(num_classes: int, in_channels: int, image_size: int, *, width: int = 64) -> nn.Module:
    """Eight 3x3 convolutions in five max-pooled stages; 9,228,362 parameters for 10 classes.

    As in `vgg16`, batch norm stands for the convolutions' biases, and one linear layer on the
    global average for the original's three. Images of 32 pixels or more.
    """
    return _vgg(num_classes, in_channels, width, depths=(1, 1, 2, 2, 2))


@ZOO.register("vgg16")
def vgg16(
    num_classes: int, in_channels: int, image_size: int, *, width: int = 64, hidden: int = 0
) -> nn.Module:
    """Thirteen 3x3 convolutions in five max-pooled stages; 14,724,042 parameters as for `vgg11`.

    With `hidden` units the head has the original's three fully connected layers, of so many units
    in the first two (4,096 there), with dropout of 0.5.
    """
    return _vgg(num_classes, in_channels, width, depths=(2, 2, 3, 3, 3), hidden=hidden)


def _vgg(
    num_classes: int, in_channels: int, width: int, *, depths: tuple[int, ...], hidden: int = 0
) -> nn.Module:
    widths = (width, 2 * width, 4 * width, 8 * width, 8 * width)[: len(depths)]
    stages: list[tuple[str, list[nn.Module]]] = []
    source = in_channels
    for number, (channels, depth) in enumerate(zip(widths, depths, strict=True), start=1):
        stage: list[nn.Module] = []
        for _ in range(depth):
            stage += [*conv_bn(source, channels), nn.ReLU()]
            source = channels
        stages.append((f"stage{number}", [*stage, nn.MaxPool2d(2)]))
    return chain(*stages, ("head", [GlobalAverage(), *_head(source, hidden, num_classes)]))


def _head(inputs: int, hidden: int, num_classes: int) -> list[nn.Module]:
    """One linear layer, or two hidden ones before it."""
    if not hidden:
        return [nn.Linear(inputs, num_classes)]
    first, second = (
        [nn.Linear(size, hidden), nn.ReLU(), nn.Dropout(0.5)] for size in (inputs, hidden)
    )
    return [*first, *second, nn.Linear(hidden, num_classes)]
