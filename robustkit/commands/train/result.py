"""What a finished training left to be told: its summary and its epochs, checked when read."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from robustkit.errors import RunError
from robustkit.reading import check_kind
from robustkit.runs import RunFolder
from robustkit.runs.summaries import (
    Count,
    Epoch,
    Finding,
    KnownRate,
    Radius,
    Real,
    Seconds,
    Share,
    read_summary,
)


class Attack(TypedDict):
    """With what a robust accuracy was measured."""

    name: str
    steps: Count
    eps: Radius


class Robust(KnownRate):
    """A robust accuracy, and what casts doubt on it."""

    attack: Attack
    diagnostics: list[Finding]


class Summary(TypedDict):
    """`summary.json` of a training; `robust` is null without adversarial training."""

    data: str
    model: str
    clean: KnownRate
    robust: Robust | None
    val_acc: Share | None
    epochs: Count
    best_epoch: Epoch
    params: Count
    macs: Count
    seconds: Seconds


class EpochTold(TypedDict):
    """A line of `metrics.jsonl`; see `robustkit.training.EpochRecord`."""

    epoch: Epoch
    train_loss: Real
    train_acc: Share
    val_loss: Real | None
    val_acc: Share | None
    penalty: NotRequired[Real | None]


def read(folder: RunFolder) -> Summary:
    """Return the summary; raises `RunError`, naming the entry, for what is none of a training."""
    return read_summary(folder, Summary)


def read_epochs(folder: RunFolder) -> list[EpochTold]:
    """Return the epochs in order; raises `RunError`, naming the line and the entry."""
    file = folder.file("metrics.jsonl")
    return [
        check_kind(record, EpochTold, f"{file}: line {number}", error=RunError)
        for number, record in enumerate(folder.metrics(), start=1)
    ]
