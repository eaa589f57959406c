"""Evaluation of a detector on images with boxes: the command `robustkit detect`."""

from adaptation.detect.pipeline import DetectOptions, run_detect
from adaptation.detect.report import write_report

__all__ = ["DetectOptions", "run_detect", "write_report"]
