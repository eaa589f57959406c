"""Hand-made networks for small images; importing this package fills the registry `ZOO`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from robustkit.errors import ModelError, did_you_mean
from robustkit.models.layers import GlobalAverage, PadShortcut, chain, conv_bn
from robustkit.registry import Registry

# Called as `maker(num_classes, in_channels, image_size, **options)`.
Maker = Callable[..., nn.Module]
ZOO: Registry[Maker] = Registry("model", ModelError)
MOST = 65_536  # of channels or units: more fit into no memory
SITE = ("num_classes", "in_channels", "image_size")
# Per stage: the factor on the width, and how many blocks; each stage but the first halves the side.
_STAGES = ((2, 1), (4, 2), (8, 2), (16, 6), (32, 2))


def find(name: str, options: Mapping[str, Any]) -> Maker:
    """Return the maker called `name`; raises `ModelError` for an unknown name or option.

    All options of the zoo are positive whole numbers up to `MOST`.
    """
    maker = ZOO.find(name)
    known = [
        parameter for parameter in inspect.signature(maker).parameters if parameter not in SITE
    ]
    for option, value in options.items():
        if option not in known:
            hint = did_you_mean(option, known) if known else " (it has none)"
            raise ModelError(f"model '{name}': unknown option '{option}'{hint}")
        if type(value) is not int or not 1 <= value <= MOST:
            raise ModelError(
                f"model '{name}': option '{option}' must be a whole number from 1 to {MOST}, "
                f"not {value!r}"
            )
    return maker


@ZOO.register("small")
def small(num_classes: int, in_channels: int, image_size: int, *, width: int = 32) -> nn.Module:
    """Make three 3x3 convolutions and one linear layer; 66,570 parameters at 3x32x32, 10 classes.

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


@ZOO.register("cnn3")
def cnn3(num_classes: int, in_channels: int, image_size: int, *, filters: int = 3) -> nn.Module:
    """Make two valid convolutions (5x5, 3x3) of `filters` filters, each pooled by 2; one linear.

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
    """Make six convolutions and two linear layers, the network that Arachne repairs.

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


@ZOO.register("vgg3")
def vgg3(num_classes: int, in_channels: int, image_size: int, *, width: int = 32) -> nn.Module:
    """Make three 3x3 convolutions, each max-pooled; 94,762 parameters for 10 classes, 3 channels.

    The shallowest of the family: some 70 % on CIFAR-10 within minutes on a CPU, and nets trained
    from other seeds share its weaknesses, as deep narrow ones do not. Images of 8 pixels or more.
    """
    return _vgg(num_classes, in_channels, width, depths=(1, 1, 1))


@ZOO.register("vgg5")
def vgg5(num_classes: int, in_channels: int, image_size: int, *, width: int = 32) -> nn.Module:
    """Make five 3x3 convolutions in three max-pooled stages; 279,466 parameters for 10 classes.

    Some 74 % on CIFAR-10 within minutes at `width` 24. Images of 8 pixels or more.
    """
    return _vgg(num_classes, in_channels, width, depths=(1, 2, 2))


@ZOO.register("vgg11")
def vgg11(num_classes: int, in_channels: int, image_size: int, *, width: int = 64) -> nn.Module:
    """Make eight 3x3 convolutions in five max-pooled stages; 9,228,362 parameters, 10 classes.

    As in `vgg16`, batch norm stands for the convolutions' biases, and one linear layer on the
    global average for the original's three. Images of 32 pixels or more.
    """
    return _vgg(num_classes, in_channels, width, depths=(1, 1, 2, 2, 2))


@ZOO.register("vgg16")
def vgg16(
    num_classes: int, in_channels: int, image_size: int, *, width: int = 64, hidden: int = 0
) -> nn.Module:
    """Make thirteen 3x3 convolutions in five max-pooled stages; 14,724,042 parameters.

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
    """Return one linear layer, or two hidden ones before it."""
    if not hidden:
        return [nn.Linear(inputs, num_classes)]
    first, second = (
        [nn.Linear(size, hidden), nn.ReLU(), nn.Dropout(0.5)] for size in (inputs, hidden)
    )
    return [*first, *second, nn.Linear(hidden, num_classes)]


@ZOO.register("resnet20")
def resnet20(num_classes: int, in_channels: int, image_size: int, *, width: int = 16) -> nn.Module:
    """Make the CIFAR network of section 4.2: three stages of three blocks, padded shortcuts.

    `width`, 2·`width`, 4·`width` channels; 269,722 parameters at 3 channels and 10 classes. Takes
    images of any size.
    """
    widths = (width, 2 * width, 4 * width)
    return _resnet(num_classes, in_channels, widths, blocks=3, project=False)


@ZOO.register("resnet18")
def resnet18(num_classes: int, in_channels: int, image_size: int, *, width: int = 64) -> nn.Module:
    """Make ResNet-18 with the stem usual for small images: a 3x3 convolution and no pooling.

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
            BasicBlock(item, width, stride, project=project)
            for item, stride in zip(sources, strides, strict=True)
        ]
        stages.append((f"stage{number}", stage))
        source = width
    return chain(
        ("stem", [*conv_bn(in_channels, widths[0]), nn.ReLU()]),
        *stages,
        ("head", [GlobalAverage(), nn.Linear(source, num_classes)]),
    )


@ZOO.register("mobilenet")
def mobilenet(num_classes: int, in_channels: int, image_size: int, *, width: int = 32) -> nn.Module:
    """Make thirteen separable blocks of 2·`width` to 32·`width` channels, a stem of stride 1.

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
