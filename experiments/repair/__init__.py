"""Mending a trained net and proving what it broke: what `robustkit repair` does."""

from experiments.repair.config import HELPS, RepairOptions
from experiments.repair.pipeline import run_repair
from experiments.repair.report import write_report
from experiments.repair.states import forget_states
from experiments.repair.subject import load_subject, with_run

__all__ = [
    "HELPS",
    "RepairOptions",
    "forget_states",
    "load_subject",
    "run_repair",
    "with_run",
    "write_report",
]
