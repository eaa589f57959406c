"""Residual networks for small images (He et al. 2016): `resnet20` and `resnet18`."""

from __future__ import annotations

from torch import Tensor, nn

from robustkit.models.layers import GlobalAverage, PadShortcut, chain, conv_bn
from robustkit.models.zoo.registry import ZOO


@ZOO.register("resnet20")
def resnet20(num_classes: int, in_channels: int, image_size: int, *, width: int = 16) -> nn.Module:
    """The CIFAR network of section 4.2: three stages of three blocks, zero-padded shortcuts.

    `width`, 2·`width`, 4·`width` channels; 269,722 parameters at 3 channels and 10 classes. Takes
    images of any size.
    """
    widths = (width, 2 * width, 4 * width)
    return _resnet(num_classes, in_channels, widths, blocks=3, project=False)


@ZOO.register("resnet18")
def resnet18(num_classes: int, in_channels: int, image_size: int, *, width: int = 64) -> nn.Module:
    """ResNet-18 with the stem usual for small images: a 3x3 convolution and no pooling.

    Four stages of two blocks, `width` to 8·`width` channels, 1x1 projections as shortcuts;
    11,173,962 parameters at 3 channels and 10 classes. Takes images of any size.
    """
    widths = (width, 2 * width, 4 * width, 8 * width)
    return _resnet(num_classes, in_channels, widths, blocks=2, project=True)


class BasicBlock(nn.Module):
    """relu(two 3x3 convolutions with batch norm + shortcut)."""

    def __init__(self, in_channels: int, channels: int, stride: int, *, project: bool) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *conv_bn(in_channels, channels, stride=stride),
            nn.ReLU(),
            *conv_bn(channels, channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if (in_channels, stride) != (channels, 1):
            if project:
                self.shortcut = nn.Sequential(*conv_bn(in_channels, channels, 1, stride=stride))
            else:
                self.shortcut = PadShortcut(channels - in_channels, stride)
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """The sum of both ways, activated."""
        y: Tensor = self.activation(self.branch(x) + self.shortcut(x))
        return y


def _resnet(
    num_classes: int, in_channels: int, widths: tuple[int, ...], *, blocks: int, project: bool
) -> nn.Module:
    stages: list[tuple[str, list[nn.Module]]] = []
    source = widths[0]
    for number, width in enumerate(widths, start=1):
        strides = [1 if number == 1 else 2] + [1] * (blocks - 1)
        sources = [source] + [width] * (blocks - 1)
        stage: list[nn.Module] = [
            BasicBlock(each, width, stride, project=project)
            for each, stride in zip(sources, strides, strict=True)
        ]
        stages.append((f"stage{number}", stage))
        source = width
    return chain(
        ("stem", [*conv_bn(in_channels, widths[0]), nn.ReLU()]),
        *stages,
        ("head", [GlobalAverage(), nn.Linear(source, num_classes)]),
    )
