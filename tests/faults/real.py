"""The command `robustkit evolve`, as short as it can be: nets, attacks, verdicts and report."""

from __future__ import annotations

from pathlib import Path

from tests.evolution.protocol.runs import TINY, evolve


def evolution(path: Path, executor: str = "inline", workers: int = 1) -> int:
    """Begin the run at `path` or go on with it; returns the command's exit code."""
    if (path / "config.yaml").exists():
        return evolve("--resume", str(path))
    where = ["--executor", executor, "--workers", str(workers)]
    return evolve(*TINY, *where, "--out", str(path))
