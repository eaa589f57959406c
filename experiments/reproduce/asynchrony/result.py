"""The summary of the study of steady mode's bias."""

from __future__ import annotations

from typing import Annotated, TypedDict

from msgspec import Meta

from experiments.summaries import Amount, Positive, check_has

Log2 = Annotated[float, Meta(ge=-64, le=64)]
Seeds = Annotated[dict[str, Log2], Meta(min_length=1)]
Cells = dict[str, Seeds]
"""By number of workers."""


class Summary(TypedDict):
    """log₂ of ratios by strategy, workers and seed; the largest spread of a search's operations."""

    study: str
    log2_ratio: dict[str, Cells]
    spread: Amount


def check(summary: Summary, where: str, workers: tuple[str, ...]) -> None:
    """Raise `RunError` where a strategy lacks one of the numbers of workers."""
    for strategy, cells in summary["log2_ratio"].items():
        check_has(cells, workers, f"{where}: log2_ratio.{strategy}")


class Searched(TypedDict):
    """What a search gives: mean operations of the nets it bred, and their spread."""

    bred: Positive
    spread: Amount
