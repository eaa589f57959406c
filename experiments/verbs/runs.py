"""`robustkit runs`: the run folders under a directory, the newest last."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.launch import RUNS
from experiments.options import Options, VerbParser
from robustkit.runs import RunInfo, find_runs


def add_arguments(parser: VerbParser) -> None:
    """Where to look."""
    parser.add_argument(
        "root", nargs="?", metavar="DIR", default=str(RUNS), help="directory that holds run folders"
    )


def run(options: Options) -> int:
    """Print a table on a terminal, tab-separated lines elsewhere; 0 also when there are none."""
    root = Path(options.root)
    # Before the first run there is no `runs` yet: that is no mistake.
    infos = find_runs(root) if root != RUNS or root.exists() else []
    rows = [_row(info) for info in infos]
    if not rows:
        print(f"no runs under {root}; `robustkit evolve` makes one")
    elif sys.stdout.isatty():
        _print_table(rows)
    else:
        print("\n".join("\t".join(row) for row in rows))
    return 0


def _row(info: RunInfo) -> tuple[str, ...]:
    state = "finished" if info.finished else "unfinished"
    result = _headline(info.headline)
    if info.problem:
        state, result = "damaged", info.problem
    return str(info.path), info.verb, info.created, state, result


def _headline(headline: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in headline.items()
    )


def _print_table(rows: list[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("run", "verb", "made", "state", "result", box=None, header_style="bold")
    for row in rows:
        table.add_row(*row)
    Console().print(table, markup=False)
