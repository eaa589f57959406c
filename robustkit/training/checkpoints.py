"""What others read of a training run: its data, its accuracy and the checkpoints that it kept."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import NotRequired, TypedDict

from robustkit.errors import RunError
from robustkit.reading import check_kind
from robustkit.runs import RunFolder
from robustkit.runs.summaries import Epoch, Share, read_settings


class Source(TypedDict):
    """Where the images of a run are from."""

    data: str
    root: str | None


class _Watched(TypedDict):
    epoch: NotRequired[Epoch | None]
    val_acc: NotRequired[Share | None]


def source_of(run: RunFolder) -> Source:
    """Return the data of a run; raises `RunError`, naming the entry, for another kind."""
    return read_settings(run, Source)


def kept_checkpoints(run: RunFolder) -> dict[int, Path]:
    """Return the model files of a training run by their epochs, counted from 1, in order."""
    checkpoints = {
        int(path.stem.removeprefix("epoch_")): path
        for path in run.file("history").glob("epoch_*.safetensors")
        if path.stem.removeprefix("epoch_").isdecimal()
    }
    return dict(sorted(checkpoints.items()))


def accuracy_by_epoch(run: RunFolder) -> dict[int, float]:
    """Return validation accuracy, a fraction, of every epoch whose metrics have it.

    Raises `RunError`, naming the line and the entry, where one is of another kind.
    """
    file, accuracies = run.file("metrics.jsonl"), {}
    for number, record in enumerate(run.metrics(), start=1):
        watched = check_kind(record, _Watched, f"{file}: line {number}", error=RunError)
        epoch, accuracy = watched.get("epoch"), watched.get("val_acc")
        if epoch is not None and accuracy is not None:
            accuracies[epoch] = accuracy
    return accuracies


def spans(epochs: Collection[int]) -> str:
    """Return epochs in words, neighbours together: `1 to 3, 7`."""
    runs: list[list[int]] = []
    for epoch in sorted(epochs):
        if runs and epoch == runs[-1][-1] + 1:
            runs[-1].append(epoch)
        else:
            runs.append([epoch])
    spelt = [str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs]
    return ", ".join(spelt) or "none"
