"""`kill -9` at random moments, `--resume` each time: the summary of an undisturbed run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.evolution.protocol.kills import compare, torment
from tests.evolution.protocol.runs import INLINE, TWO_WORKERS


def test_three_kills_change_nothing(finished: Path, tmp_path: Path) -> None:
    assert len(torment(tmp_path / "runs", 3, INLINE, seed=3)) == 3
    compare(tmp_path / "runs", finished)


@pytest.mark.slow
def test_ten_kills_change_nothing(finished: Path, tmp_path: Path) -> None:
    assert len(torment(tmp_path / "runs", 10, INLINE, seed=1)) == 10
    compare(tmp_path / "runs", finished)


@pytest.mark.slow
def test_ten_kills_beside_two_workers_change_nothing(finished: Path, tmp_path: Path) -> None:
    assert len(torment(tmp_path / "runs", 10, TWO_WORKERS, seed=2)) == 10
    compare(tmp_path / "runs", finished)
