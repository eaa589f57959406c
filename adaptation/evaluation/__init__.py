"""Evaluation of detectors: VOC's and COCO's average precision, and breakdowns."""

from adaptation.evaluation.coco import CocoPrecision, coco_precision
from adaptation.evaluation.evaluate import (
    DetectorEvaluation,
    attacked,
    detect,
    evaluate,
    robust_ap50,
)
from adaptation.evaluation.voc import (
    ClassPrecision,
    by_size,
    redrawn_ap50,
    size_edges,
    voc_precision,
    with_difficult,
)

__all__ = [
    "ClassPrecision",
    "CocoPrecision",
    "DetectorEvaluation",
    "attacked",
    "by_size",
    "coco_precision",
    "detect",
    "evaluate",
    "redrawn_ap50",
    "robust_ap50",
    "size_edges",
    "voc_precision",
    "with_difficult",
]
