"""Epochs shown elsewhere than in `metrics.jsonl`, which stays the truth."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from robustkit.errors import ConfigError
from robustkit.training import EpochRecord

Watcher = Callable[[EpochRecord], None]


def check_tensorboard() -> None:
    """Raise `ConfigError` with the command that installs it where TensorBoard is missing."""
    try:
        importlib.import_module("tensorboard")
    except ImportError:
        raise ConfigError(
            "TensorBoard is not installed: pip install 'robustkit[tensorboard]'"
        ) from None


@contextmanager
def tensorboard(folder: Path) -> Iterator[Watcher]:
    """Writes every number of an epoch to event files in `folder`, the epoch as its step."""
    writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter(folder)

    def watch(epoch: EpochRecord) -> None:
        for name, value in vars(epoch).items():
            if name != "epoch" and value is not None:
                writer.add_scalar(name, value, epoch.epoch)

    try:
        yield watch
    finally:
        writer.close()
