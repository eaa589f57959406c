"""The folders in which a case happens."""

from __future__ import annotations

from pathlib import Path

from tests.hostile.case import Place


def place_for(folder: Path, runs: Path) -> Place:
    """Make an empty place below `folder`, with files outside it that nothing may touch."""
    here, outside = folder / "here", folder / "outside"
    here.mkdir(parents=True)
    (outside / "folder").mkdir(parents=True)
    (outside / "precious.txt").write_text("a thesis\n")
    (outside / "precious.jsonl").write_text('{"epoch": 1}\n{"torn')
    return Place(here, outside, runs)
