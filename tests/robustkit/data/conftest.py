from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Arrays = dict[str, Any]
WriteNpz = Callable[..., Path]


@pytest.fixture(autouse=True)
def _own_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the tester's data nor their cache folder is seen, and no network either."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network in tests")

    monkeypatch.delenv("ROBUSTKIT_DATA", raising=False)
    monkeypatch.setenv("ROBUSTKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("socket.create_connection", refuse)


def made_arrays(train: int = 30, test: int = 6, classes: int = 3) -> Arrays:
    """Grey 8×9 images whose every pixel is the image's own number, labels in turn."""
    return {
        "x_train": np.arange(train, dtype=np.uint8)[:, None, None] + np.zeros((1, 8, 9), np.uint8),
        "y_train": np.arange(train) % classes,
        "x_test": np.full((test, 8, 9), 200, np.uint8),
        "y_test": np.arange(test) % classes,
    }


@pytest.fixture
def write_npz(tmp_path: Path) -> WriteNpz:
    """Write a small .npz whose arrays are replaced as told, None leaving one out."""

    def write(name: str = "set.npz", **changes: Any) -> Path:
        arrays = {**made_arrays(), **changes}
        path = tmp_path / name
        np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
        return path

    return write
