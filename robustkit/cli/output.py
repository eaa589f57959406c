"""Lines for the user: one line at a time, on a terminal or into whatever stands for it."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from robustkit.reading import printable


def log(line: str) -> None:
    """Print a line at once, with nothing in it that would control a terminal.

    An output that is full, or whose reader has left, takes no more; the work goes on.
    """
    try:
        print(printable(line), flush=True)
    except OSError:
        mute(sys.stdout)


def print_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, header: bool = True, boxed: bool = False
) -> None:
    """Print a table on a terminal; elsewhere tab-separated lines, with the `header` if wanted."""
    rows = [[printable(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        print("\n".join("\t".join(line) for line in ([head, *rows] if header else rows)))
        return
    from rich.box import HEAVY_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(*head, box=HEAVY_HEAD if boxed else None, header_style="bold")
    for row in rows:
        table.add_row(*row)
    Console().print(table, markup=False)


def mute(stream: object) -> None:
    """Discard what a stream still holds, and whatever follows."""
    if isinstance(stream, io.TextIOWrapper):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
