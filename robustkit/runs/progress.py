"""How far a long run is: a live line on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol, Self, TextIO

if TYPE_CHECKING:
    from rich.progress import TaskID

INTERVAL = 10.0
"""Seconds between two lines of a log."""


class Progress(Protocol):
    """Shows the user how far a run is. A run has phases, a phase has steps."""

    def phase(self, title: str, total: int) -> None:
        """Begin the phase `title` of `total` steps; the one before has ended."""

    def update(self, done: int, facts: str = "") -> None:
        """Report that `done` steps of the phase are over, with `facts` in a few words."""

    def note(self, text: str) -> None:
        """Print a line that stays."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...


def open_progress(stream: TextIO | None = None) -> Progress:
    """Return a `LiveProgress` for a terminal `stream` (default stderr), else `PlainProgress`."""
    stream = stream or sys.stderr
    return LiveProgress(stream) if stream.isatty() else PlainProgress(stream)


@contextmanager
def _broken_streams_ignored() -> Iterator[None]:
    """Go on where the log is full or its reader has left: no run of hours is lost for a line."""
    with suppress(OSError, ValueError):  # the latter of a stream that was closed
        yield


class PlainProgress:
    """Lines for a log: one when a phase begins and ends, and one every `INTERVAL` seconds."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._title = ""
        self._total = 0
        self._start = self._last = 0.0

    def phase(self, title: str, total: int) -> None:
        """See `Progress.phase`."""
        self._title, self._total = title, total
        self._start = self._last = self._clock()
        self.note(f"{title}: {total} to do")

    def update(self, done: int, facts: str = "") -> None:
        """See `Progress.update`."""
        now = self._clock()
        if now - self._last < INTERVAL and done < self._total:
            return
        self._last = now
        spent = now - self._start
        left = spent / done * (self._total - done) if done else 0.0
        parts = [f"{self._title}: {done}/{self._total}", facts, f"{spent:.0f} s"]
        if left:
            parts.append(f"about {left:.0f} s left")
        self.note(", ".join(part for part in parts if part))

    def note(self, text: str) -> None:
        """See `Progress.note`."""
        with _broken_streams_ignored():
            print(text, file=self._stream, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """There is nothing to put back."""


class LiveProgress:
    """A bar for each phase on a terminal, the last one moving."""

    def __init__(self, stream: TextIO) -> None:
        from rich import progress
        from rich.console import Console

        self._bars = progress.Progress(
            progress.SpinnerColumn(finished_text="[green]✓"),
            progress.TextColumn("{task.description}"),
            progress.BarColumn(bar_width=24),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[facts]}", markup=False),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
            console=Console(file=stream),
        )
        self._task: TaskID | None = None

    def phase(self, title: str, total: int) -> None:
        """See `Progress.phase`."""
        if self._task is not None:
            self._bars.stop_task(self._task)
        self._task = self._bars.add_task(title, total=total, facts="")

    def update(self, done: int, facts: str = "") -> None:
        """See `Progress.update`."""
        if self._task is not None:
            with _broken_streams_ignored():
                self._bars.update(self._task, completed=done, facts=facts)

    def note(self, text: str) -> None:
        """See `Progress.note`."""
        with _broken_streams_ignored():
            self._bars.console.print(text, markup=False, highlight=False)

    def __enter__(self) -> Self:
        with _broken_streams_ignored():
            self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Leave the bars as they are and give the terminal back."""
        with _broken_streams_ignored():
            self._bars.stop()
