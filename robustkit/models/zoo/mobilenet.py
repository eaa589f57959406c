"""MobileNet for small images (Howard et al. 2017): depthwise-separable convolutions throughout."""

from __future__ import annotations

from torch import nn

from robustkit.models.layers import GlobalAverage, chain, conv_bn
from robustkit.models.zoo.registry import ZOO

# Per stage: the factor on the width, and how many blocks; each stage but the first halves the side.
_STAGES = ((2, 1), (4, 2), (8, 2), (16, 6), (32, 2))


@ZOO.register("mobilenet")
def mobilenet(num_classes: int, in_channels: int, image_size: int, *, width: int = 32) -> nn.Module:
    """Thirteen separable blocks of 2·`width` to 32·`width` channels behind a stem of stride 1.

    3,217,226 parameters at 3 channels and 10 classes. Takes images of any size.
    """
    stages: list[tuple[str, list[nn.Module]]] = []
    source = width
    for number, (factor, blocks) in enumerate(_STAGES, start=1):
        stage: list[nn.Module] = []
        for block in range(blocks):
            stride = 2 if block == 0 and number > 1 else 1
            stage += _separable(source, factor * width, stride)
            source = factor * width
        stages.append((f"stage{number}", stage))
    return chain(
        ("stem", [*conv_bn(in_channels, width), nn.ReLU()]),
        *stages,
        ("head", [GlobalAverage(), nn.Linear(source, num_classes)]),
    )


def _separable(in_channels: int, channels: int, stride: int) -> list[nn.Module]:
    return [
        *conv_bn(in_channels, in_channels, stride=stride, groups=in_channels),
        nn.ReLU(),
        *conv_bn(in_channels, channels, 1),
        nn.ReLU(),
    ]
