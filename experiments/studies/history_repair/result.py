"""The summary of the study of repair by training history."""

from __future__ import annotations

from typing import Literal

from msgspec import field

from experiments.studies.base import StudySummary
from robustkit.errors import RunError
from robustkit.runs.summaries import (
    Amount,
    Count,
    MeanShare,
    Result,
)

Score = Literal["acc_after", "rr", "br"]
Part = Literal["repaired", "held_out"]


_MISSING = -1  # no value of a file is below 0


class Scores(Result, frozen=True, kw_only=True):
    """Accuracy after a repair, repair rate and break rate."""

    acc_after: MeanShare | None
    rr: MeanShare | None
    br: MeanShare | None


class Run(Result, frozen=True, kw_only=True):
    """One repair, on the images repaired on and on those held out."""

    repaired: Scores
    held_out: Scores | None = None


class Sets(Result, frozen=True, kw_only=True):
    """Sizes of the sets of images; None of those a method does not look at."""

    pos: Count | None
    neg: Count | None
    deg: Count | None
    imp: Count | None


class Cell(Result, frozen=True, kw_only=True):
    """A row of a table for one model: the repairs, or the reason why there is none."""

    failed: str | None = None
    before: MeanShare = _MISSING
    n: Count = _MISSING
    held_out_before: MeanShare = _MISSING
    held_out_n: Count = _MISSING
    sets: Sets = Sets(pos=None, neg=None, deg=None, imp=None)
    seconds: Amount = _MISSING
    runs: list[Run] = field(default_factory=list)


class Summary(StudySummary, frozen=True, kw_only=True):
    """Cells by model, fold and row."""

    models: dict[str, dict[str, dict[str, Cell]]]


class Trained(Result, frozen=True, kw_only=True):
    """What a training of the subject gives."""

    val_acc: list[MeanShare | None]


def check(summary: Summary, where: str) -> None:
    """Raise `RunError` where a cell is neither a failure nor whole."""
    for model, folds in summary.models.items():
        for fold, rows in folds.items():
            for row, cell in rows.items():
                check_cell(cell, f"{where}: models.{model}.{fold}.{row}")


def check_cell(cell: Cell, where: str) -> None:
    """Raise `RunError` where the cell is neither a failure nor whole."""
    if cell.failed is not None:
        return
    for name in ("before", "n", "held_out_before", "held_out_n", "sets", "seconds", "runs"):
        if getattr(cell, name) == getattr(Cell(), name):
            raise RunError(f"{where}: '{name}' is missing")
    for number, run in enumerate(cell.runs):
        if run.held_out is None:
            raise RunError(f"{where}.runs[{number}]: 'held_out' is missing")
