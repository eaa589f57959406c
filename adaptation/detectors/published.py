"""torchvision's detectors with their published backbones; nothing is ever downloaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torchvision.models import detection

from robustkit.errors import ModelError

PUBLISHED: dict[str, Callable[..., nn.Module]] = {
    "fasterrcnn_resnet50_fpn": detection.fasterrcnn_resnet50_fpn,
    "fasterrcnn_resnet50_fpn_v2": detection.fasterrcnn_resnet50_fpn_v2,
    "fasterrcnn_mobilenet_v3_large_fpn": detection.fasterrcnn_mobilenet_v3_large_fpn,
    "fasterrcnn_mobilenet_v3_large_320_fpn": detection.fasterrcnn_mobilenet_v3_large_320_fpn,
    "retinanet_resnet50_fpn": detection.retinanet_resnet50_fpn,
    "retinanet_resnet50_fpn_v2": detection.retinanet_resnet50_fpn_v2,
    "fcos_resnet50_fpn": detection.fcos_resnet50_fpn,
    "ssd300_vgg16": detection.ssd300_vgg16,
    "ssdlite320_mobilenet_v3_large": detection.ssdlite320_mobilenet_v3_large,
}


def published(name: str, classes: int) -> nn.Module:
    """torchvision's detector `name` for so many classes, fresh, all of it trainable.

    It resizes as published. Raises `ModelError` for a name that is not there.
    """
    if name not in PUBLISHED:
        raise ModelError(f"torchvision has no detector '{name}'")
    given: dict[str, Any] = {"weights": None, "weights_backbone": None, "num_classes": classes + 1}
    return PUBLISHED[name](**given)


def coco_classes() -> tuple[str, ...]:
    """The 90 labels of torchvision's published weights, counted without background.

    COCO left some numbers out; they are called "N/A 12" and so on.
    """
    names = detection.FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"][1:]
    return tuple(
        f"N/A {number}" if name == "N/A" else name for number, name in enumerate(names, start=1)
    )
