"""The real sets, where ROBUSTKIT_DATA names a folder that has them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from robustkit.data import load

ROOT = os.environ.get("ROBUSTKIT_DATA", "")  # read before the tests' surroundings hide it


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [("cifar10", (3, 32, 32), 10), ("mnist", (1, 28, 28), 10), ("gtsrb", (3, 32, 32), 43)],
)
def test_a_real_set_loads(name: str, shape: tuple[int, int, int], classes: int) -> None:
    if not ROOT or not (Path(ROOT) / f"{name}.npz").is_file():
        pytest.skip(f"ROBUSTKIT_DATA has no {name}.npz")
    splits = load(name, root=ROOT, train_size=1000)
    assert len(splits.train) == 1000
    assert splits.train.shape == shape
    for part in (splits.train, splits.val, splits.test):
        assert len(torch.unique(part.labels)) == classes
    if splits.train.tracks is not None and splits.val.tracks is not None:
        train, val = (
            set(zip(part.labels.tolist(), part.tracks.tolist(), strict=True))
            for part in (splits.train, splits.val)
            if part.tracks is not None
        )
        assert not train & val
