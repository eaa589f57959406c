"""torchvision's detectors as they are built: fresh, around published weights, on a backbone's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn
from torchvision.models import detection, mobilenet_v3_large
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteFeatureExtractorMobileNet, SSDLiteHead

from adaptation.detectors.norms import BATCH, FROZEN, constant_norms
from robustkit.errors import ModelError, did_you_mean

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
SSDLITE = "ssdlite320_mobilenet_v3_large"

WEIGHTS, BACKBONE = "weights", "weights_backbone"  # torchvision's names of the two starts

# Of a detector that starts from weights torchvision freezes the first stages: parameters whose
# names begin so. By the arguments its functions take where nothing is said.
_RESNET = ("backbone.body.conv1.", "backbone.body.bn1.", "backbone.body.layer1.")
_MOBILENET = tuple(f"backbone.body.{number}." for number in range(7))
FIXED: Mapping[str, tuple[str, ...]] = {
    **{name: _RESNET for name in PUBLISHED if "resnet50" in name},
    **{name: _MOBILENET for name in PUBLISHED if name.startswith("fasterrcnn_mobilenet")},
    "ssd300_vgg16": tuple(f"backbone.features.{number}." for number in range(4)),
    SSDLITE: (),
}
# Those whose backbone's batch norms are constants then, but for files that count batches.
FROZEN_NORMS = (
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "retinanet_resnet50_fpn",
    "fcos_resnet50_fpn",
)
# Those whose published weights were trained before frozen norms had an epsilon (vision#2933).
WITHOUT_EPS = ("fasterrcnn_resnet50_fpn", "retinanet_resnet50_fpn")

# VOC's words for COCO's classes.
SAME = {
    "airplane": "aeroplane",
    "motorcycle": "motorbike",
    "couch": "sofa",
    "dining table": "diningtable",
    "potted plant": "pottedplant",
    "tv": "tvmonitor",
}


@dataclass(frozen=True)
class Start:
    """The construction of a published detector that starts from trained weights.

    `source` is "weights" or "weights_backbone", `norms` "frozen" or "batch": whether the batch
    norms of the backbone are constants. Raises `ModelError` for other words.
    """

    source: str
    norms: str

    def __post_init__(self) -> None:
        if self.source not in (WEIGHTS, BACKBONE) or self.norms not in (FROZEN, BATCH):
            raise ModelError(
                f"a detector's card that starts from '{self.source}' with norms '{self.norms}'; "
                f"known are {WEIGHTS} and {BACKBONE}, {FROZEN} and {BATCH}"
            )

    def to_dict(self) -> dict[str, str]:
        """Return plain values for a card."""
        return {"from": self.source, "norms": self.norms}

    @classmethod
    def from_dict(cls, plain: object) -> Start:
        """Return the inverse of `to_dict`; raises `ModelError` for anything else."""
        if not (
            isinstance(plain, Mapping)
            and plain.keys() == {"from", "norms"}
            and all(isinstance(value, str) for value in plain.values())
        ):
            raise ModelError(f"a detector's card with a start of no use: {plain!r}")
        return cls(plain["from"], plain["norms"])


def check_published(name: str) -> None:
    """Raise `ModelError` where torchvision has no detector `name`."""
    if name not in PUBLISHED:
        raise ModelError(f"no detector 'torchvision:{name}'{did_you_mean(name, PUBLISHED)}")


def published(
    name: str,
    classes: int,
    start: Start | None = None,
    statistics: tuple[Sequence[float], Sequence[float]] | None = None,
) -> nn.Module:
    """Return torchvision's detector `name` for so many classes, with fresh weights.

    Without a `start` all of it is trainable. With one it is the module that torchvision builds
    around such weights: batch norms and first stages frozen as published. `statistics`, mean and
    standard deviation by channel, replace those it normalises by. It resizes as published. Raises
    `ModelError` for a name that is not there.
    """
    check_published(name)
    if start is not None and start.norms == FROZEN and name not in FROZEN_NORMS:
        raise ModelError(f"torchvision:{name} has no frozen batch norms")
    options: dict[str, Any] = {
        "weights": None,
        "weights_backbone": None,
        "num_classes": classes + 1,
    }
    if statistics is not None:
        options |= {"image_mean": list(statistics[0]), "image_std": list(statistics[1])}
    if name == SSDLITE and (start is not None or statistics is not None):
        # torchvision's function would give the statistics to the backbone, too.
        backbone_options = {
            key: value for key, value in options.items() if not key.startswith(WEIGHTS)
        }
        return _ssdlite(**backbone_options, reduced_tail=start is None or start.source == WEIGHTS)
    net = PUBLISHED[name](**options)
    if start is None:
        return net
    if start.norms == FROZEN:
        eps = 0.0 if start.source == WEIGHTS and name in WITHOUT_EPS else 1e-5
        constant_norms(net.get_submodule("backbone.body"), eps)
    for called, parameter in net.named_parameters():
        if called.startswith(FIXED[name]):
            parameter.requires_grad_(False)
    return net


def statistics_of(net: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation by channel that a detector of torchvision
    normalises by.
    """
    transform: Any = net.get_submodule("transform")
    return tuple(map(float, transform.image_mean)), tuple(map(float, transform.image_std))


def coco_classes() -> tuple[str, ...]:
    """Return the 90 labels of torchvision's published weights, counted without background.

    COCO left some numbers out; they are called "N/A 12" and so on.
    """
    names = detection.FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"][1:]
    return tuple(
        f"N/A {number}" if name == "N/A" else name for number, name in enumerate(names, start=1)
    )


def in_words_of(known: Sequence[str], spelling: Sequence[str]) -> tuple[str, ...]:
    """Return the classes `known`, spelt as in `wanted` where the two differ in spelling only.

    >>> in_words_of(["airplane", "cat"], ["aeroplane", "dog"])
    ('aeroplane', 'cat')
    """
    synonyms = {**SAME, **{voc: coco for coco, voc in SAME.items()}}
    return tuple(
        name if name in spelling or synonyms.get(name) not in spelling else synonyms[name]
        for name in known
    )


def _ssdlite(
    num_classes: int,
    reduced_tail: bool,
    image_mean: list[float] | None = None,
    image_std: list[float] | None = None,
) -> nn.Module:
    """Return SSDlite320 as torchvision builds it, with a choice of backbone.

    On a classifier's weights the backbone keeps the whole tail, which the published one has halved
    (Howard et al. 2019, section 6.3).
    """
    norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
    features = mobilenet_v3_large(weights=None, norm_layer=norm, reduced_tail=reduced_tail).features
    if reduced_tail:
        _draw_normal(features)
    body = SSDLiteFeatureExtractorMobileNet(features, _C4, norm)
    channels = [672, 480 if reduced_tail else 960, 512, 256, 256, 128]
    boxes = DefaultBoxGenerator([[2, 3] for _ in range(6)], min_ratio=0.2, max_ratio=0.95)
    net: nn.Module = SSD(
        body,
        boxes,
        (320, 320),
        num_classes,
        image_mean or [0.5, 0.5, 0.5],
        image_std or [0.5, 0.5, 0.5],
        head=SSDLiteHead(channels, boxes.num_anchors_per_location(), num_classes, norm),
        score_thresh=0.001,
        nms_thresh=0.55,
        detections_per_img=300,
        topk_candidates=300,
    )
    return net


def _draw_normal(features: nn.Module) -> None:
    for module in features.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, mean=0.0, std=0.03)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def from_classifier(name: str) -> Callable[[str], str | None]:
    """Return the function from a classifier's tensor name to the detector's.

    None where it has none.

    The classifiers are torchvision's resnet50, mobilenet_v3_large and vgg16.
    """
    if name == "ssd300_vgg16":
        return _of_vgg
    if name == SSDLITE:
        return _of_ssdlite
    if "mobilenet" in name:
        return lambda tensor: _moved(tensor, "features.", "backbone.body.")
    return lambda tensor: None if tensor.startswith("fc.") else f"backbone.body.{tensor}"


def _moved(name: str, old: str, new: str) -> str | None:
    return new + name.removeprefix(old) if name.startswith(old) else None


_CONV4 = 23  # where SSD takes vgg16's features apart: behind conv4_3
_C4 = 13  # and SSDlite those of mobilenet_v3_large: within this block


def _of_vgg(name: str) -> str | None:
    if not name.startswith("features."):
        return None
    _, number, rest = name.split(".", 2)
    index = int(number)
    if index < _CONV4:
        return f"backbone.features.{index}.{rest}"
    return f"backbone.extra.0.{index - _CONV4}.{rest}"


def _of_ssdlite(name: str) -> str | None:
    if not name.startswith("features."):
        return None
    _, number, rest = name.split(".", 2)
    index = int(number)
    if index < _C4:
        return f"backbone.features.0.{index}.{rest}"
    if index > _C4:
        return f"backbone.features.1.{index - _C4}.{rest}"
    _, inner, rest = rest.split(".", 2)  # block.N.…
    if inner == "0":
        return f"backbone.features.0.{_C4}.{rest}"
    return f"backbone.features.1.0.{inner}.{rest}"
