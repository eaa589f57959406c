"""COCO's average precision, by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from adaptation.detectors import Detections
from robustkit.data.detection import Truth
from robustkit.reading import Json


@dataclass(frozen=True)
class CocoPrecision:
    """AP over IoU 0.50 to 0.95, at 0.50, at 0.75, and `by_class` the first of each class.

    None where there is no object. `sizes` are AP of small, medium and large objects by COCO's
    areas, 32² and 96² pixels.
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    by_class: tuple[float | None, ...]
    sizes: tuple[float | None, float | None, float | None]


def coco_precision(
    detections: Sequence[Detections], truths: Sequence[Truth], classes: int
) -> CocoPrecision:
    """Return COCO's precisions over images whose detections and truths go together.

    COCO knows no difficult objects: here they count as any other. Regions of many objects are
    `iscrowd`.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools talks
        truth_set = COCO()
        truth_set.dataset = coco_dataset(truths, classes)
        truth_set.createIndex()
        results = COCO()
        results.dataset = {**truth_set.dataset, "annotations": coco_results(detections)}
        results.createIndex()
        evaluation = COCOeval(truth_set, results, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    # Axes: IoU, recall, class, area, most detections.
    precision = evaluation.eval["precision"][..., -1]
    return CocoPrecision(
        ap=_mean(precision[..., 0]),
        ap50=_mean(precision[0, ..., 0]),
        ap75=_mean(precision[5, ..., 0]),
        by_class=tuple(_mean(precision[:, :, number, 0]) for number in range(classes)),
        sizes=(_mean(precision[..., 1]), _mean(precision[..., 2]), _mean(precision[..., 3])),
    )


def _mean(values: Any) -> float | None:
    measured = values[values > -1]  # -1: no object
    return float(np.mean(measured)) if measured.size else None


def coco_dataset(truths: Sequence[Truth], classes: int) -> Json:
    """Return the truths of images 1, 2, … as a data set in COCO's format."""
    annotations: list[Json] = []
    for image, truth in enumerate(truths, start=1):
        for box, label, crowd, area in zip(
            truth.boxes.tolist(), truth.labels.tolist(), truth.crowd.tolist(), truth.area.tolist(),
            strict=True,
        ):  # fmt: skip
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": label + 1,
                    "bbox": _sides(box),
                    "area": area,
                    "iscrowd": int(crowd),
                }
            )
    return {
        "images": [{"id": image} for image in range(1, len(truths) + 1)],
        "categories": [{"id": label} for label in range(1, classes + 1)],
        "annotations": annotations,
    }


def coco_results(detections: Sequence[Detections]) -> list[Json]:
    """Return the detections in images 1, 2, … as results in COCO's format."""
    results: list[Json] = []
    for image, detected in enumerate(detections, start=1):
        for box, score, label in zip(
            detected.boxes.tolist(), detected.scores.tolist(), detected.labels.tolist(), strict=True
        ):
            sides = _sides(box)
            results.append(
                {
                    "id": len(results) + 1,
                    "image_id": image,
                    "category_id": label + 1,
                    "bbox": sides,
                    "area": sides[2] * sides[3],
                    "iscrowd": 0,
                    "score": score,
                }
            )
    return results


def _sides(box: list[float]) -> list[float]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]
