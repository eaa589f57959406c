"""The training of detectors: plain, adversarial, aligned, taught; composable and resumable."""

from adaptation.training.config import DetectionConfig
from adaptation.training.loop import StepRecord, train_detector
from adaptation.training.processes import process_group
from adaptation.training.statistics import adapt_classifier, adapt_statistics, batch_norms

__all__ = [
    "DetectionConfig",
    "StepRecord",
    "adapt_classifier",
    "adapt_statistics",
    "batch_norms",
    "process_group",
    "train_detector",
]
