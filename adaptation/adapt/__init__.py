"""Detectors for another domain, recipe by recipe: what `robustkit adapt` does."""

from adaptation.adapt.config import SET_BY_RECIPES, AdaptOptions, check_named, check_recipes
from adaptation.adapt.pipeline import run_adapt
from adaptation.adapt.report import write_report
from adaptation.adapt.result import cautions, summary_of
from adaptation.adapt.workspace import load_domains, make_detector

__all__ = [
    "SET_BY_RECIPES",
    "AdaptOptions",
    "cautions",
    "check_named",
    "check_recipes",
    "load_domains",
    "make_detector",
    "run_adapt",
    "summary_of",
    "write_report",
]
