"""The result of a training and its epochs, as the program and the run folder's files have them."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, UnsetType

from robustkit.errors import RunError
from robustkit.reading import check_kind
from robustkit.runs import RunFolder
from robustkit.runs.summaries import (
    Count,
    Epoch,
    Finding,
    Radius,
    Real,
    Result,
    Seconds,
    Share,
    read_summary,
    where_of,
)
from robustkit.stats import KnownRate


class Attack(Result, frozen=True):
    """The attack that a robust accuracy was measured with."""

    name: str
    steps: Count
    eps: Radius


class RobustRate(KnownRate, frozen=True, kw_only=True):
    """A robust accuracy, and what casts doubt on it."""

    attack: dict[str, Any]  # all parameters, read as an `Attack`
    diagnostics: list[Finding]


class Summary(Result, frozen=True, kw_only=True):
    """`summary.json` of a training; `robust` is None without adversarial training."""

    data: str
    model: str
    clean_acc: Share | UnsetType = UNSET
    clean: KnownRate
    robust: RobustRate | None
    val_acc: Share | None
    epochs: Count
    best_epoch: Epoch
    params: Count
    macs: Count
    seconds: Seconds


class SavedEpoch(Result, frozen=True):
    """A line of `metrics.jsonl`; see `robustkit.training.EpochRecord`."""

    epoch: Epoch
    train_loss: Real
    train_acc: Share
    val_loss: Real | None
    val_acc: Share | None
    penalty: Real | None = None


def read(folder: RunFolder) -> Summary:
    """Return the summary; raises `RunError`, naming the entry, for what is none of a training."""
    summary = read_summary(folder, Summary)
    if summary.robust is not None:
        Attack.from_json(summary.robust.attack, f"{where_of(folder)}: robust.attack")
    return summary


def read_epochs(folder: RunFolder) -> list[SavedEpoch]:
    """Return the epochs in order; raises `RunError`, naming the line and the entry."""
    file = folder.file("metrics.jsonl")
    return [
        check_kind(record, SavedEpoch, f"{file}: line {number}", error=RunError)
        for number, record in enumerate(folder.metrics(), start=1)
    ]
