"""The checkpoints that a training run kept, one for each epoch."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from robustkit.runs import RunFolder


def kept_checkpoints(run: RunFolder) -> dict[int, Path]:
    """The model files of a training run by their epochs, counted from 1, in order."""
    found = {
        int(path.stem.removeprefix("epoch_")): path
        for path in run.file("history").glob("epoch_*.safetensors")
        if path.stem.removeprefix("epoch_").isdecimal()
    }
    return dict(sorted(found.items()))


def accuracy_by_epoch(run: RunFolder) -> dict[int, float]:
    """Validation accuracy, a fraction, of every epoch whose metrics have it."""
    known = {record.get("epoch"): record.get("val_acc") for record in run.metrics()}
    return {epoch: acc for epoch, acc in known.items() if epoch is not None and acc is not None}


def spans(epochs: Collection[int]) -> str:
    """Epochs in words, neighbours together: `1 to 3, 7`."""
    runs: list[list[int]] = []
    for epoch in sorted(epochs):
        if runs and epoch == runs[-1][-1] + 1:
            runs[-1].append(epoch)
        else:
            runs.append([epoch])
    told = [str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs]
    return ", ".join(told) or "none"
