"""Detectors for another domain, recipe by recipe: what `robustkit adapt` does."""

from experiments.adapt.config import (
    HELPS,
    SET_BY_RECIPES,
    TRAINING_HELPS,
    AdaptOptions,
    check_named,
    check_recipes,
)
from experiments.adapt.pipeline import run_adapt
from experiments.adapt.report import write_report
from experiments.adapt.result import summary_of
from experiments.adapt.workspace import load_domains, make_detector

__all__ = [
    "HELPS",
    "SET_BY_RECIPES",
    "TRAINING_HELPS",
    "AdaptOptions",
    "check_named",
    "check_recipes",
    "load_domains",
    "make_detector",
    "run_adapt",
    "summary_of",
    "write_report",
]
