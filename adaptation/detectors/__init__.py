"""Detectors: torchvision's, tiny ones, and tiny ones on any classifier."""

from adaptation.detectors.backbone import automatic_taps, take_weights
from adaptation.detectors.build import build, digest, load, rebuild, runs_code, save
from adaptation.detectors.detector import DetectionLoss, Detections, Detector
from adaptation.detectors.published import PUBLISHED, coco_classes, in_words_of, statistics_of
from adaptation.detectors.tiny import TINY

__all__ = [
    "PUBLISHED",
    "TINY",
    "DetectionLoss",
    "Detections",
    "Detector",
    "automatic_taps",
    "build",
    "coco_classes",
    "digest",
    "in_words_of",
    "load",
    "rebuild",
    "runs_code",
    "save",
    "statistics_of",
    "take_weights",
]
