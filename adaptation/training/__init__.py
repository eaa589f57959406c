"""The training of detectors: plain, adversarial, aligned, taught; composable and resumable."""

from adaptation.training.adabn import adapt_classifier, adapt_statistics, batch_norms
from adaptation.training.config import DetectionConfig
from adaptation.training.loop import StepRecord, train_detector

__all__ = [
    "DetectionConfig",
    "StepRecord",
    "adapt_classifier",
    "adapt_statistics",
    "batch_norms",
    "train_detector",
]
