"""Maps of a model's decisions and whether they are any good: what `robustkit explain` does."""

from experiments.explain import checkpoints
from experiments.explain.config import HELPS, ExplainOptions
from experiments.explain.pipeline import run_explain
from experiments.explain.report import write_report
from experiments.explain.subject import load_subject, resolve_settings

__all__ = [
    "HELPS",
    "ExplainOptions",
    "checkpoints",
    "load_subject",
    "resolve_settings",
    "run_explain",
    "write_report",
]
