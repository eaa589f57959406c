"""Lines for the user: one line at a time, on a terminal or into whatever stands for it."""

from __future__ import annotations

import io
import os
import sys
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


def mute(stream: object) -> None:
    """Discard what a stream still holds, and whatever follows."""
    if isinstance(stream, io.TextIOWrapper):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
