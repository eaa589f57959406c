"""The summary of the study of repair by training history."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from robustkit.errors import RunError
from robustkit.runs.summaries import Amount, Count, MeanShare

Figure = Literal["acc_after", "rr", "br"]
Where = Literal["repaired", "held_out"]


class Figures(TypedDict):
    """Accuracy after a repair, repair rate and break rate."""

    acc_after: MeanShare | None
    rr: MeanShare | None
    br: MeanShare | None


class Run(TypedDict):
    """One repair, on the images repaired on and on those held out."""

    repaired: Figures
    held_out: NotRequired[Figures]


class Sets(TypedDict):
    """Sizes of the sets of images; None of those a method does not look at."""

    pos: Count | None
    neg: Count | None
    deg: Count | None
    imp: Count | None


class Cell(TypedDict):
    """A row of a table for one model: why there is no repair, or all of the rest."""

    failed: NotRequired[str]
    before: NotRequired[MeanShare]
    n: NotRequired[Count]
    held_out_before: NotRequired[MeanShare]
    held_out_n: NotRequired[Count]
    sets: NotRequired[Sets]
    seconds: NotRequired[Amount]
    runs: NotRequired[list[Run]]


WHOLE = ("before", "n", "held_out_before", "held_out_n", "sets", "seconds", "runs")


class Summary(TypedDict):
    """Cells by model, fold and row."""

    study: str
    models: dict[str, dict[str, dict[str, Cell]]]


class Trained(TypedDict):
    """What a training of the subject gives."""

    val_acc: list[MeanShare | None]


def check(summary: Summary, where: str) -> None:
    """Raise `RunError` where a cell is neither a failure nor whole."""
    for model, folds in summary["models"].items():
        for fold, rows in folds.items():
            for row, cell in rows.items():
                check_cell(cell, f"{where}: models.{model}.{fold}.{row}")


def check_cell(cell: Cell, where: str) -> None:
    """The same for one."""
    if "failed" in cell:
        return
    for name in WHOLE:
        if name not in cell:
            raise RunError(f"{where}: '{name}' is missing")
    for number, run in enumerate(cell["runs"]):
        if "held_out" not in run:
            raise RunError(f"{where}.runs[{number}]: 'held_out' is missing")
