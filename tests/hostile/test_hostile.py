"""0 tracebacks, 0 hangs, 0 files touched outside: every case ends as it says.

`make test` runs one in forty of them, `make test-all` all; `HOSTILE_SEED=3` chooses others.
"""

from __future__ import annotations

import os
import zlib
from collections import Counter
from pathlib import Path

import pytest

from tests.hostile.case import Case
from tests.hostile.cases import every
from tests.hostile.child import complaints
from tests.hostile.places import place_for

SHARE = 40
SEED = int(os.environ.get("HOSTILE_SEED", "0")) % SHARE
CASES = list(every())


def _parameter(case: Case) -> object:
    chosen = zlib.crc32(case.name.encode()) % SHARE == SEED
    return pytest.param(case, id=case.name, marks=() if chosen else pytest.mark.slow)


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where finished runs are kept for all processes of the tests."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "hostile-runs"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.mark.parametrize("case", [_parameter(case) for case in CASES])
def test_it_ends_well(case: Case, runs: Path, tmp_path: Path) -> None:
    assert complaints(case, place_for(tmp_path, runs)) == []


def test_names_are_unique() -> None:
    assert [name for name, count in Counter(case.name for case in CASES).items() if count > 1] == []
