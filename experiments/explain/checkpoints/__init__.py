"""The same maps of the same images for every checkpoint of a training."""

from experiments.explain.checkpoints.pipeline import (
    Prepared,
    forget_parts,
    prepare,
    run_checkpoints,
)
from experiments.explain.checkpoints.report import headline, write_report
from experiments.explain.checkpoints.result import read
from experiments.explain.checkpoints.settings import (
    check_resumable,
    resolve_run,
    without_run,
)

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
