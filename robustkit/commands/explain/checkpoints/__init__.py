"""The same maps of the same images for every checkpoint of a training."""

from robustkit.commands.explain.checkpoints.pipeline import (
    Prepared,
    check_resumable,
    forget_parts,
    prepare,
    resolve_run,
    run_checkpoints,
    without_run,
)
from robustkit.commands.explain.checkpoints.report import headline, write_report
from robustkit.commands.explain.checkpoints.result import read

__all__ = [
    "Prepared",
    "check_resumable",
    "forget_parts",
    "headline",
    "prepare",
    "read",
    "resolve_run",
    "run_checkpoints",
    "without_run",
    "write_report",
]
