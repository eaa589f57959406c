"""Which runs there are below a folder."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robustkit.errors import RunError
from robustkit.runs.atomic import write_text
from robustkit.runs.folder import RunFolder


@dataclass(frozen=True)
class RunInfo:
    """One line about a run.

    `created` is its UTC time in ISO format; `headline` holds the single values of its summary;
    `problem` says why a run cannot be read, in which case the rest is empty.
    """

    path: Path
    command: str = ""
    created: str = ""
    finished: bool = False
    headline: Mapping[str, Plain] = field(default_factory=dict)
    problem: str = ""


def find_runs(root: Path | str) -> list[RunInfo]:
    """Return all run folders at or below `root`, the oldest first; hidden folders are not searched.

    Raises `RunError` if `root` is not a folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise RunError(f"{root} is not a folder")
    runs, waiting = [], [root]
    while waiting:
        folder = waiting.pop()
        files, below = _entries(folder)
        if {"config.yaml", "env.json"} <= files:
            runs.append(_describe(folder))
        else:
            waiting += [folder / name for name in below if not name.startswith(".")]
    return sorted(runs, key=lambda run: (run.created, run.path))


def _entries(folder: Path) -> tuple[set[str], list[str]]:
    """Return the names of files and of folders; none where the folder cannot be read."""
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
    return RunInfo(path, run.command, created, summary is not None, single)


Plain = str | int | float | bool | None
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")
LISTED = 12  # longer lists are no single values


def as_row(run: RunFolder) -> dict[str, Plain]:
    """Return `config.NAME` and `summary.NAME`, nested names dotted, without long lists."""
    row: dict[str, Plain] = {"run": str(run.path), "verb": run.command}
    row["commit"] = str(run.env.get("commit") or "")
    _flatten(run.config, "config", row)
    summary = {k: v for k, v in (run.summary() or {}).items() if k not in ("format", "verb")}
    _flatten(summary, "summary", row)
    return row


def differing(rows: Sequence[Mapping[str, Plain]]) -> list[str]:
    """Return the names whose values are not the same in all rows, settings first."""
    names = dict.fromkeys(name for row in rows for name in row if name != "run")
    changing = [name for name in names if len({_key(row.get(name)) for row in rows}) > 1]
    return sorted(changing, key=lambda name: name.startswith("summary."))


def export(rows: Sequence[Mapping[str, Plain]], path: Path, *, replace: bool = False) -> None:
    """Write rows as .csv or .json, whole or not at all.

    Raises `RunError` for another suffix and, unless it is to be replaced, for a file that exists.
    """
    if os.path.lexists(path) and not replace:
        raise RunError(f"{path} exists already and is not overwritten; --force replaces it")
    if path.suffix == ".json":
        write_text(path, json.dumps(list(rows), indent=2, allow_nan=False) + "\n")
        return
    if path.suffix != ".csv":
        raise RunError(f"{path}: runs are exported as .csv or .json")
    names = list(dict.fromkeys(name for row in rows for name in row))
    written = io.StringIO()
    writer = csv.DictWriter(written, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _as_text(value) for name, value in row.items()} for row in rows)
    write_text(path, written.getvalue())


def _as_text(value: Plain) -> Plain:
    """Return a cell that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULAS) else value


def _key(value: Plain) -> str:
    return json.dumps(value)


def _flatten(value: Any, name: str, row: dict[str, Plain]) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            _flatten(inner, f"{name}.{key}", row)
    elif isinstance(value, list):
        if len(value) <= LISTED and all(isinstance(item, str | int | float) for item in value):
            row[name] = ",".join(map(str, value))
    else:
        row[name] = value
