"""The summary of the study of asynchronous bias."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from experiments.studies.base import StudySummary
from robustkit.runs.summaries import (
    Amount,
    Positive,
    Result,
    check_has,
)

Log2 = Annotated[float, Meta(ge=-64, le=64)]
Seeds = Annotated[dict[str, Log2], Meta(min_length=1)]
Cells = dict[str, Seeds]
"""By number of workers."""


class Summary(StudySummary, frozen=True, kw_only=True):
    """log₂ of ratios by strategy, workers and seed; the largest spread of a search's operations."""

    log2_ratio: dict[str, Cells]
    spread: Amount


def check(summary: Summary, where: str, workers: tuple[str, ...]) -> None:
    """Raise `RunError` where a strategy lacks one of the numbers of workers."""
    for strategy, cells in summary.log2_ratio.items():
        check_has(cells, workers, f"{where}: log2_ratio.{strategy}")


class Searched(Result, frozen=True, kw_only=True):
    """What a search gives: mean operations of the nets it bred, and their spread."""

    sampled: Positive
    bred: Positive
    spread: Amount
