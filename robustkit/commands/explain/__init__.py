"""`robustkit explain`: maps of a model's decisions, and how good they are."""

from robustkit.commands.explain import checkpoints, checkpoints_report
from robustkit.commands.explain.config import ExplainOptions
from robustkit.commands.explain.pipeline import run_explain
from robustkit.commands.explain.report import write_report
from robustkit.commands.explain.subject import load_subject, resolve_settings

__all__ = [
    "ExplainOptions",
    "checkpoints",
    "checkpoints_report",
    "load_subject",
    "resolve_settings",
    "run_explain",
    "write_report",
]
