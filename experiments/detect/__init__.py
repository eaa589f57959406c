"""What a detector is worth on images with boxes: what `robustkit detect` does."""

from experiments.detect.config import HELPS, DetectOptions
from experiments.detect.models import resolve_detector
from experiments.detect.pipeline import run_detect
from experiments.detect.report import write_report

__all__ = ["HELPS", "DetectOptions", "resolve_detector", "run_detect", "write_report"]
