"""What happened in each epoch of a training."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """One epoch, counted from 1.

    Accuracies are fractions in [0,1]; losses are cross-entropies in nats; `penalty` is the mean
    misalignment (None without references), `masked` counts the rows it had to leave out; `val_…`
    are None where nothing was watched; `lr` is the last step's.
    """

    epoch: int
    train_loss: float
    train_acc: float
    val_loss: float | None
    val_acc: float | None
    penalty: float | None
    masked: int
    lr: float
    seconds: float


@dataclass(frozen=True)
class History:
    """Every epoch's record, in order; `best` is the one whose weights the model was left with."""

    records: tuple[EpochRecord, ...]
    best: EpochRecord

    def to_dicts(self) -> list[dict[str, Any]]:
        """The records as plain values, ready for JSON."""
        return [asdict(record) for record in self.records]
