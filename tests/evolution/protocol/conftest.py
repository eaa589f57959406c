"""One finished run for all tests of this folder: a process's first training step costs seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.evolution.protocol.runs import INLINE, TINY, evolve


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of TINY on the inline executor, never to be changed."""
    folder = tmp_path_factory.mktemp("evolve") / "inline"
    assert evolve(*TINY, *INLINE, "--out", str(folder)) == 0
    return folder
