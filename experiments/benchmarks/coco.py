"""pycocotools as its own documentation has it: from files of JSON to the summary's figures."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from adaptation.detectors import Found
from robustkit.data.detection import Truth


def prepare(
    found: Sequence[Found], truths: Sequence[Truth], classes: int, *, only_half: bool = False
) -> Callable[[], list[float]]:
    """The work of loading and evaluating; writing the two files is left out of it.

    It comes to AP, AP50 and AP75 or, with `only_half`, to the AP at IoU 0.5 alone, for which no
    other threshold, size or number of detections is evaluated.
    """
    import numpy as np
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    folder = tempfile.TemporaryDirectory()
    known_file = Path(folder.name) / "truths.json"
    found_file = Path(folder.name) / "found.json"
    known_file.write_text(json.dumps(_truths(truths, classes)), encoding="utf-8")
    found_file.write_text(json.dumps(_found(found)), encoding="utf-8")

    def work() -> list[float]:
        assert folder  # the files live as long as the work does
        with contextlib.redirect_stdout(io.StringIO()):
            known = COCO(str(known_file))
            evaluation = COCOeval(known, known.loadRes(str(found_file)), "bbox")
            if only_half:
                evaluation.params.iouThrs = np.array([0.5])
                evaluation.params.areaRng = evaluation.params.areaRng[:1]
                evaluation.params.areaRngLbl = evaluation.params.areaRngLbl[:1]
                evaluation.params.maxDets = evaluation.params.maxDets[-1:]
            evaluation.evaluate()
            evaluation.accumulate()
            if only_half:  # its summary insists on all thresholds
                precision = evaluation.eval["precision"]
                return [float(precision[precision > -1].mean())]
            evaluation.summarize()
        return [float(value) for value in evaluation.stats[:3]]

    return work


def _truths(truths: Sequence[Truth], classes: int) -> dict[str, Any]:
    annotations: list[dict[str, Any]] = []
    for image, truth in enumerate(truths, start=1):
        for box, label, area in zip(
            truth.boxes.tolist(), truth.labels.tolist(), truth.area.tolist(), strict=True
        ):
            place = {"id": len(annotations) + 1, "image_id": image, "category_id": label + 1}
            annotations.append({**place, "bbox": _corner(box), "area": area, "iscrowd": 0})
    return {
        "images": [{"id": image} for image in range(1, len(truths) + 1)],
        "categories": [{"id": label} for label in range(1, classes + 1)],
        "annotations": annotations,
    }


def _found(found: Sequence[Found]) -> list[dict[str, Any]]:
    return [
        {"image_id": image, "category_id": label + 1, "bbox": _corner(box), "score": score}
        for image, each in enumerate(found, start=1)
        for box, score, label in zip(
            each.boxes.tolist(), each.scores.tolist(), each.labels.tolist(), strict=True
        )
    ]


def _corner(box: list[float]) -> list[float]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]
