"""Mending a trained net and proving what it broke: what `robustkit repair` does."""

from robustkit.commands.repair.config import RepairOptions
from robustkit.commands.repair.pipeline import run_repair
from robustkit.commands.repair.report import write_report
from robustkit.commands.repair.search import forget_states
from robustkit.commands.repair.subject import load_subject, with_run

__all__ = [
    "RepairOptions",
    "forget_states",
    "load_subject",
    "run_repair",
    "with_run",
    "write_report",
]
