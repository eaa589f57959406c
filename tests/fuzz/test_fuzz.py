"""Hostile files of every kind end in one of our errors, in one line, or are read.

Here a few hundred of each; `python -m tests.fuzz` tries ten thousand.
"""

from __future__ import annotations

import time
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.formats import Format, formats
from tests.fuzz.reading import SECONDS, ending

NAMES = ("blueprint", "model", "config", "annotation", "coco", "npz", "patch", "ledger")


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Format]:
    return {each.name: each for each in formats(tmp_path_factory.mktemp("fuzz"))}


def test_every_format_is_tried(known: dict[str, Format]) -> None:
    assert tuple(known) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_sound_file_is_read(known: dict[str, Format], tmp_path: Path, name: str) -> None:
    path = tmp_path / f"sound{known[name].suffix}"
    path.write_bytes(known[name].sound)
    known[name].read(path)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_a_hostile_file_is_read_or_refused(
    known: dict[str, Format], tmp_path: Path, name: str, seed: int
) -> None:
    start = time.perf_counter()
    found = ending(known[name], Random(seed), tmp_path)
    assert found.kind in ("read", "refused"), found.told
    assert time.perf_counter() - start < SECONDS
