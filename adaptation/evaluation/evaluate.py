"""Detections of a detector on images, as they are or attacked, and their precision."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from adaptation.attacks import DetectionAttack
from adaptation.detectors import Detections, Detector
from adaptation.evaluation.coco import coco_precision
from adaptation.evaluation.voc import by_size, mean_ap50, size_edges, voc_precision, with_difficult
from robustkit.compute import device_of, torch_generator
from robustkit.data import to_unit
from robustkit.data.detection import DetectionSet, Truth
from robustkit.models.state import state_preserved
from robustkit.runs.summaries import Amount, Count, MeanShare, Result

BATCH = 16


class BySize(Result, frozen=True, kw_only=True):
    """A precision in [0,1] by the size of objects; None without any of that size."""

    small: MeanShare | None
    medium: MeanShare | None
    large: MeanShare | None


class SizePrecision(Result, frozen=True, kw_only=True):
    """Precision by size: VOC's with the sides in pixels between thirds as `edges`, COCO's."""

    edges: tuple[Amount, Amount]
    ap50_area: BySize
    coco_ap: BySize


class ClassScores(Result, frozen=True, kw_only=True):
    """Precision of one class and its number of objects; None without objects."""

    ap50_11pt: MeanShare | None
    ap50_area: MeanShare | None
    coco_ap: MeanShare | None
    objects: Count


class Scores(Result, frozen=True, kw_only=True):
    """Means over classes with objects, in [0,1]: VOC's at IoU 0.5 and COCO's; None without objects.

    `ap50_11pt` by 11 points (VOC 2007), `ap50_area` by area (2010 and later); `coco_ap` over IoU
    0.50 to 0.95, `coco_ap50`, `coco_ap75`.
    """

    ap50_11pt: MeanShare | None
    ap50_area: MeanShare | None
    coco_ap: MeanShare | None
    coco_ap50: MeanShare | None
    coco_ap75: MeanShare | None


class DetectorEvaluation(Scores, frozen=True, kw_only=True):
    """The same with each class, each size, and `ap50_area` with difficult objects counted."""

    images: Count
    objects: Count
    classes: dict[str, ClassScores]
    sizes: SizePrecision
    with_difficult: MeanShare | None


def detect(model: Detector, images: DetectionSet, batch: int = BATCH) -> list[Detections]:
    """Return the detections in every image, on the CPU; the model is left as it was."""
    device = device_of(model)
    detections: list[Detections] = []
    with state_preserved(model):
        for start in range(0, len(images), batch):
            rows = range(start, min(start + batch, len(images)))
            pixels = [to_unit(images.image(row)).to(device) for row in rows]
            detections += _detected(model, pixels)
    return detections


def evaluate(
    detections: Sequence[Detections], truths: Sequence[Truth], classes: Sequence[str]
) -> DetectorEvaluation:
    """Return every precision over images whose detections and truths go together."""
    voc = voc_precision(detections, truths, len(classes))
    coco = coco_precision(detections, truths, len(classes))
    edges = size_edges(truths)
    small, medium, large = coco.sizes
    return DetectorEvaluation(
        ap50_11pt=_mean([precision.ap_11pt for precision in voc]),
        ap50_area=_mean([precision.ap_area for precision in voc]),
        coco_ap=coco.ap,
        coco_ap50=coco.ap50,
        coco_ap75=coco.ap75,
        images=len(truths),
        objects=sum(precision.objects for precision in voc),
        classes={
            name: ClassScores(
                ap50_11pt=precision.ap_11pt,
                ap50_area=precision.ap_area,
                coco_ap=ap,
                objects=precision.objects,
            )
            for name, precision, ap in zip(classes, voc, coco.by_class, strict=True)
        },
        sizes=SizePrecision(
            edges=edges,
            ap50_area=BySize(**by_size(detections, truths, len(classes), edges)),
            coco_ap=BySize(small=small, medium=medium, large=large),
        ),
        with_difficult=with_difficult(detections, truths, len(classes)),
    )


def attacked(
    model: Detector, images: DetectionSet, attack: DetectionAttack, seed: int
) -> list[Detections]:
    """Return the detections in adversarials of every image."""
    detections, device = [], device_of(model)
    generator = torch_generator("judge", seed)
    for start in range(0, len(images), BATCH):
        rows = range(start, min(start + BATCH, len(images)))
        pixels = [to_unit(images.image(row)).to(device) for row in rows]
        truths = [images.truths[row] for row in rows]
        detections += _detected(model, attack(model, pixels, truths, generator=generator))
    return detections


def robust_ap50(
    model: Detector, images: DetectionSet, attack: DetectionAttack, seed: int
) -> float | None:
    """Return the mean AP50 by area over classes on adversarials of `images`."""
    detections = attacked(model, images, attack, seed)
    return mean_ap50(detections, images.truths, len(images.classes))


def _detected(model: Detector, pixels: Sequence[Tensor]) -> list[Detections]:
    with state_preserved(model), torch.no_grad():
        return [
            Detections(output.boxes.cpu(), output.scores.cpu(), output.labels.cpu())
            for output in model(list(pixels))
        ]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
