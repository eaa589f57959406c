"""`robustkit repair`: repair a trained model and measure what the repair broke."""

from robustkit.commands.repair.config import RepairOptions
from robustkit.commands.repair.pipeline import run_repair
from robustkit.commands.repair.report import write_report
from robustkit.commands.repair.search import remove_states
from robustkit.commands.repair.subject import load_subject, with_run

__all__ = [
    "RepairOptions",
    "load_subject",
    "remove_states",
    "run_repair",
    "with_run",
    "write_report",
]
