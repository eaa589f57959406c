"""From a detector and a set to every figure of merit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from adaptation.attacks import DetectionAttack
from adaptation.detectors import Detector, Found
from adaptation.evaluation.coco import coco_precision
from adaptation.evaluation.voc import by_size, size_edges, voc_precision, with_difficult
from robustkit.compute import device_of, torch_generator
from robustkit.data import to_unit
from robustkit.data.detection import DetectionSet, Truth
from robustkit.models.state import pure

BATCH = 16


def detect(model: Detector, images: DetectionSet, batch: int = BATCH) -> list[Found]:
    """Detections in every image, on the CPU, in evaluation mode; the model is left as it was."""
    device, found = device_of(model), []
    with pure(model), torch.no_grad():
        for start in range(0, len(images), batch):
            rows = range(start, min(start + batch, len(images)))
            pixels = [to_unit(images.image(row)).to(device) for row in rows]
            for each in model(pixels):
                found.append(Found(each.boxes.cpu(), each.scores.cpu(), each.labels.cpu()))
    return found


def evaluate(
    found: Sequence[Found], truths: Sequence[Truth], classes: Sequence[str]
) -> dict[str, Any]:
    """Every figure as plain values; AP of VOC is at IoU 0.5, and each says which it is.

    `ap50_11pt` and `ap50_area` are VOC's, `coco_ap`, `coco_ap50`, `coco_ap75` COCO's, means over
    classes that have objects. None where there are none.
    """
    voc = voc_precision(found, truths, len(classes))
    coco = coco_precision(found, truths, len(classes))
    edges = size_edges(truths)
    return {
        "ap50_11pt": _mean([each.ap_11pt for each in voc]),
        "ap50_area": _mean([each.ap_area for each in voc]),
        "coco_ap": coco.ap,
        "coco_ap50": coco.ap50,
        "coco_ap75": coco.ap75,
        "images": len(truths),
        "objects": sum(each.objects for each in voc),
        "classes": {
            name: {
                "ap50_11pt": own.ap_11pt,
                "ap50_area": own.ap_area,
                "coco_ap": ap,
                "objects": own.objects,
            }
            for name, own, ap in zip(classes, voc, coco.by_class, strict=True)
        },
        "sizes": {
            "edges": edges,
            "ap50_area": by_size(found, truths, len(classes), edges),
            "coco_ap": dict(zip(("small", "medium", "large"), coco.sizes, strict=True)),
        },
        "with_difficult": with_difficult(found, truths, len(classes)),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


ATTACK_BATCH = 16


def attacked(
    model: Detector, images: DetectionSet, attack: DetectionAttack, seed: int
) -> list[Found]:
    """Detections in adversarials of every image."""
    found, device = [], device_of(model)
    generator = torch_generator("judge", seed)
    for start in range(0, len(images), ATTACK_BATCH):
        rows = range(start, min(start + ATTACK_BATCH, len(images)))
        pixels = [to_unit(images.image(row)).to(device) for row in rows]
        truths = [images.truths[row] for row in rows]
        found += _detected(model, attack(model, pixels, truths, generator=generator))
    return found


def robust_ap50(
    model: Detector, images: DetectionSet, attack: DetectionAttack, seed: int
) -> float | None:
    """Mean AP50 by area over classes on adversarials of `images`."""
    found = attacked(model, images, attack, seed)
    precision = voc_precision(found, images.truths, len(images.classes))
    return _mean([each.ap_area for each in precision])


def _detected(model: Detector, pixels: Sequence[Tensor]) -> list[Found]:
    with pure(model), torch.no_grad():
        return [
            Found(each.boxes.cpu(), each.scores.cpu(), each.labels.cpu())
            for each in model(list(pixels))
        ]
