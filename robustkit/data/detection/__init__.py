"""Images with boxes: VOC folders, COCO files, and rendered ones."""

from robustkit.data.detection.coco import read_coco
from robustkit.data.detection.loading import load_detection, shapes_config
from robustkit.data.detection.sets import SIX, VOC, DetectionSet, Truth, joined, truth
from robustkit.data.detection.voc import read_voc

__all__ = [
    "SIX",
    "VOC",
    "DetectionSet",
    "Truth",
    "joined",
    "load_detection",
    "read_coco",
    "read_voc",
    "shapes_config",
    "truth",
]
