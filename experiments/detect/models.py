"""The detectors that options name."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from adaptation import detectors
from adaptation.detectors import Detector, coco_classes
from robustkit.errors import ConfigError, ModelError
from robustkit.models.weights import fit_weights, read_weights

# VOC's words for COCO's classes.
SAME = {
    "airplane": "aeroplane",
    "motorcycle": "motorbike",
    "couch": "sofa",
    "dining table": "diningtable",
    "potted plant": "pottedplant",
    "tv": "tvmonitor",
}


def resolve_detector(
    spec: str, weights: str | None, classes: Sequence[str], device: torch.device
) -> Detector:
    """The detector `spec` names, in evaluation mode on `device`.

    A state dict for torchvision:NAME may be of COCO's 91 classes, as torchvision publishes them, or
    of `classes` and background. Raises `ModelError` for a classifier's file and for weights that
    do not fit.
    """
    if spec.startswith("torchvision:"):
        if weights is None:
            raise ConfigError(f"{spec}: without --weights FILE it has learnt nothing")
        return _published(spec, weights, classes).to(device).eval()
    if weights is not None:
        raise ConfigError(f"{spec}: a detector's file has its own weights; leave out --weights")
    return detectors.load(spec).to(device)


def in_words_of(known: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """The classes `known` in the words of `wanted`, where the two lists differ in spelling only."""
    other = {**SAME, **{voc: coco for coco, voc in SAME.items()}}
    return [
        name if name in wanted or other.get(name) not in wanted else other[name] for name in known
    ]


def _published(spec: str, weights: str, classes: Sequence[str]) -> Detector:
    tensors = read_weights(weights)
    failed = ""
    for names in (coco_classes(), tuple(classes)):
        made = detectors.build(spec, in_words_of(names, classes), seed=0)
        try:
            fit_weights(made.net, tensors, weights)
        except ModelError as error:
            failed = failed or str(error)
            continue
        return made
    raise ModelError(f"{failed} (neither for COCO's 91 classes nor for the data's {len(classes)})")
