"""`robustkit runs`: list the run folders under a directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robustkit.cli.context import RUNS
from robustkit.cli.output import print_table
from robustkit.cli.parser import CommandParser, Options
from robustkit.errors import ConfigError
from robustkit.runs import RunFolder, RunInfo, as_row, differing, export, find_runs

LONGEST = 80  # characters of one value
MOST = 20  # values of a summary in one row


def add_arguments(parser: CommandParser) -> None:
    """Where to look, and what to do with what is found."""
    # No default: not every jsonargparse takes one for a positional argument.
    parser.add_argument(
        "root", nargs="?", metavar="DIR", help=f"directory that holds run folders; none: {RUNS}"
    )
    parser.add_argument(
        "--compare",
        nargs="+",
        metavar="RUN",
        help="two runs or more: where their settings and summaries differ",
    )
    parser.add_argument(
        "--export", metavar="FILE", help="settings and summaries of all of them, as .csv or .json"
    )
    parser.add_argument(
        "--force", action="store_true", help="let --export replace a file that exists"
    )


def run(options: Options) -> int:
    """Print a table on a terminal, tab-separated lines elsewhere; 0 also when there are none."""
    if options.force and options.export is None:
        raise ConfigError("--force goes with --export, whose file it lets replace")
    if options.compare is not None:
        if len(options.compare) < 2:
            raise ConfigError("--compare takes two runs or more")
        folders = [RunFolder.open(path) for path in options.compare]
        return _compared([as_row(folder) for folder in folders], options)
    root = RUNS if options.root is None else Path(options.root)
    # Before the first run there is no `runs` yet: that is no mistake.
    infos = find_runs(root) if root != RUNS or root.exists() else []
    if options.export is not None:
        readable = [as_row(RunFolder.open(info.path)) for info in infos if not info.problem]
        export(readable, Path(options.export), replace=options.force)
        print(f"{len(readable)} runs: {options.export}")
        return 0
    rows = [_row(info) for info in infos]
    if not rows:
        print(f"no runs under {root}; `robustkit evolve` makes one")
        return 0
    print_table(("run", "verb", "made", "state", "result"), rows, header=False)
    return 0


def _compared(rows: Sequence[Mapping[str, Any]], options: Options) -> int:
    if options.export is not None:
        export(rows, Path(options.export), replace=options.force)
        print(f"{len(rows)} runs: {options.export}")
        return 0
    names = differing(rows)
    if not names:
        print("no difference")
        return 0
    table = [(name, *(_told(row.get(name)) for row in rows)) for name in names]
    print_table(("", *(str(row["run"]) for row in rows)), table, header=True)
    return 0


def _told(value: Any) -> str:
    if value is None:
        return "–"
    told = f"{value:.4g}" if isinstance(value, float) else str(value)
    return told if len(told) <= LONGEST else f"{told[:LONGEST]}…"


def _row(info: RunInfo) -> tuple[str, ...]:
    state = "finished" if info.finished else "unfinished"
    result = _headline(info.headline)
    if info.problem:
        state, result = "damaged", info.problem
    return str(info.path), info.command, _told(info.created), state, result


def _headline(headline: Mapping[str, Any]) -> str:
    told = [f"{_told(name)} {_told(value)}" for name, value in headline.items()]
    return ", ".join(told[:MOST]) + (", …" if len(told) > MOST else "")
