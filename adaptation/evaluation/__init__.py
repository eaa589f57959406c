"""What a detector is worth: VOC's and COCO's average precision, and breakdowns."""

from adaptation.evaluation.breakdown import by_size, size_edges, with_difficult
from adaptation.evaluation.coco import CocoPrecision, coco_precision
from adaptation.evaluation.evaluate import detect, evaluate
from adaptation.evaluation.intervals import over_seeds
from adaptation.evaluation.voc import ClassPrecision, voc_precision

__all__ = [
    "ClassPrecision",
    "CocoPrecision",
    "by_size",
    "coco_precision",
    "detect",
    "evaluate",
    "over_seeds",
    "size_edges",
    "voc_precision",
    "with_difficult",
]
