"""Which runs there are below a folder."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robustkit.errors import RunError
from robustkit.runs.folder import RunFolder


@dataclass(frozen=True)
class RunInfo:
    """One line about a run.

    `created` is its UTC time in ISO format; `headline` holds the single values of its summary;
    `problem` says why a run cannot be read, in which case the rest is empty.
    """

    path: Path
    verb: str = ""
    created: str = ""
    finished: bool = False
    headline: dict[str, Any] = field(default_factory=dict)
    problem: str = ""


def find_runs(root: Path | str) -> list[RunInfo]:
    """All run folders at or below `root`, the oldest first; hidden folders are not searched.

    Raises `RunError` if `root` is not a folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise RunError(f"{root} is not a folder")
    found, waiting = [], [root]
    while waiting:
        folder = waiting.pop()
        files, below = _entries(folder)
        if {"config.yaml", "env.json"} <= files:
            found.append(_describe(folder))
        else:
            waiting += [folder / name for name in below if not name.startswith(".")]
    return sorted(found, key=lambda run: (run.created, run.path))


def _entries(folder: Path) -> tuple[set[str], list[str]]:
    """The names of files and of folders; none where the folder cannot be read."""
    files, folders = set(), []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                else:
                    files.add(entry.name)
    except OSError:
        return set(), []
    return files, folders


def _describe(path: Path) -> RunInfo:
    try:
        run = RunFolder.open(path)
        summary = run.summary()
    except RunError as error:
        return RunInfo(path, problem=str(error))
    single = {
        key: value
        for key, value in (summary or {}).items()
        if isinstance(value, int | float | str) and key not in ("format", "verb")
    }
    created = str(run.env.get("time", ""))
    return RunInfo(path, run.verb, created, summary is not None, single)
