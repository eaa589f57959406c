"""Three detectors small enough for two cores: images of 96 to 160 pixels, three levels of maps."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.ssd import SSD, SSDHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign

LEVELS = 3
NORMS = ("group", "batch")
FUSED = 64  # channels of every level where levels are fused, by default
# Sides of anchors, in sides of the image: shapes are a quarter to a half of it.
SCALES = (0.18, 0.32, 0.5, 0.75)

Backbone = nn.Module  # with `out_channels`, a list with the channels of each level


class TinyBackbone(nn.Module):
    """A plain convolutional net; gives maps at strides 8, 16 and 32 as "0", "1", "2"."""

    def __init__(self, width: int = 32, norm: str = "group") -> None:
        super().__init__()
        widths = (width // 2, width, 2 * width, 2 * width, 2 * width)
        first, second = _block(3, widths[0], norm, 2), _block(widths[0], widths[1], norm, 2)
        self.stem = nn.Sequential(*first, *second)
        levels = []
        for before, after in pairwise(widths[1:]):
            levels.append(
                nn.Sequential(*_block(before, after, norm, 2), *_block(after, after, norm, 1))
            )
        self.levels = nn.ModuleList(levels)
        self.out_channels = list(widths[2:])

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """Return maps by level, finest first."""
        x = self.stem(x)
        maps = OrderedDict()
        for number, level in enumerate(self.levels):
            x = level(x)
            maps[str(number)] = x
        return maps


class Fused(nn.Module):
    """A feature pyramid over a backbone: all levels with the same number of channels."""

    def __init__(self, body: Backbone, width: int = FUSED) -> None:
        super().__init__()
        self.body = body
        channels: Any = body.out_channels
        self.pyramid = FeaturePyramidNetwork(channels, width)
        self.out_channels = width

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """Return fused maps by level."""
        return OrderedDict(self.pyramid(self.body(x)))


class SameSize(GeneralizedRCNNTransform):  # type: ignore[misc]
    """Normalises, and resizes only images that do not have the right size."""

    def __init__(self, side: int, mean: list[float], std: list[float]) -> None:
        super().__init__(side, side, mean, std, size_divisible=1, fixed_size=(side, side))

    def resize(
        self, image: Tensor, target: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Return resize as torchvision does; leave images of the right size untouched."""
        if image.shape[-2:] == self.fixed_size:
            return image, target
        resized: tuple[Tensor, dict[str, Tensor] | None] = super().resize(image, target)
        return resized


def tiny_ssd(
    body: Backbone, classes: int, side: int, mean: list[float], std: list[float], fpn: int | None
) -> SSD:
    """Return a single-shot detector (Liu et al. 2016), four boxes at every place of three levels.

    On a fused pyramid of `fpn` channels, or without one.
    """
    boxes = DefaultBoxGenerator([[2.0]] * LEVELS, scales=list(SCALES))
    channels: Any = body.out_channels
    backbone = body
    if fpn is not None:
        backbone, channels = Fused(body, fpn), [fpn] * LEVELS
    head = SSDHead(channels, boxes.num_anchors_per_location(), classes + 1)
    net = SSD(
        backbone, boxes, (side, side), classes + 1, mean, std, head, detections_per_img=50
    )  # fmt: skip
    net.transform = SameSize(side, mean, std)
    return net


def tiny_fcos(
    body: Backbone, classes: int, side: int, mean: list[float], std: list[float], fpn: int | None
) -> FCOS:
    """Return a one-stage detector without anchors (Tian et al. 2019) on a fused pyramid."""
    strides = tuple((8 * 2**level,) for level in range(LEVELS))
    anchors = AnchorGenerator(strides, ((1.0,),) * LEVELS)
    backbone = Fused(body, fpn or FUSED)
    head = FCOSHead(backbone.out_channels, 1, classes + 1, num_convs=2)
    net = FCOS(
        backbone, classes + 1, side, side, mean, std, anchors, head,
        score_thresh=0.05, detections_per_img=50,
    )  # fmt: skip
    net.transform = SameSize(side, mean, std)
    return net


def tiny_fasterrcnn(
    body: Backbone, classes: int, side: int, mean: list[float], std: list[float], fpn: int | None
) -> FasterRCNN:
    """Return a two-stage detector (Ren et al. 2015) on a fused pyramid."""
    sizes = tuple((int(scale * side),) for scale in SCALES[:LEVELS])
    backbone = Fused(body, fpn or FUSED)
    net = FasterRCNN(
        backbone,
        min_size=side,
        max_size=side,
        image_mean=mean,
        image_std=std,
        rpn_anchor_generator=AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * LEVELS),
        rpn_pre_nms_top_n_train=300,
        rpn_pre_nms_top_n_test=300,
        rpn_post_nms_top_n_train=100,
        rpn_post_nms_top_n_test=50,
        rpn_batch_size_per_image=64,
        box_roi_pool=MultiScaleRoIAlign(["0", "1"], 5, 2),
        box_head=TwoMLPHead(backbone.out_channels * 25, 128),
        box_predictor=FastRCNNPredictor(128, classes + 1),
        box_batch_size_per_image=64,
        box_detections_per_img=50,
    )
    net.transform = SameSize(side, mean, std)
    return net


TINY: dict[str, Callable[..., nn.Module]] = {
    "tiny_ssd": tiny_ssd,
    "tiny_fcos": tiny_fcos,
    "tiny_fasterrcnn": tiny_fasterrcnn,
}


def _block(before: int, after: int, norm: str, stride: int) -> list[nn.Module]:
    normed = nn.GroupNorm(8, after) if norm == "group" else nn.BatchNorm2d(after)
    return [nn.Conv2d(before, after, 3, stride, 1, bias=False), normed, nn.ReLU()]
