"""What a detector is worth on images with boxes: what `robustkit detect` does."""

from adaptation.detect.pipeline import DetectOptions, run_detect
from adaptation.detect.report import write_report

__all__ = ["DetectOptions", "run_detect", "write_report"]
