"""A run in a process of its own, to be struck; and the same run when nothing happens to it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.evolution.protocol.runs import content, rows, summary

# A fresh process imports torch for seconds, in which there is nothing to disturb. And nobody may be
# kept from reading Python's own library, so that all a run needs is imported before.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        "tests.faults.standin",
        "tests.faults.real",
        "evolution.command",
        "torch._dynamo",
        "matplotlib.figure",
        "matplotlib.backends.backend_svg",
        "encodings.utf_16_be",  # as fonts have their names
    ]
)
NOBODY = 65534
GROWING = ("ledger.sqlite", "metrics.jsonl", "scratch")  # or gone when the run has ended

Work = Callable[[Path, str, int], int]
"""Begins the run at a path or goes on with it, on an executor with workers: the exit code."""


@dataclass(frozen=True)
class Course:
    """A run undisturbed: `seconds` it takes, bytes of its `largest` file, and what it ends with."""

    work: Work
    seconds: float
    largest: int
    end: tuple[Any, ...]


class Victim:
    """A run in a process of its own, its output added to a file."""

    def __init__(
        self, work: Work, path: Path, executor: str = "inline", workers: int = 1, **odd: Any
    ) -> None:
        self.path, self.output = path, path.parent / f"{path.name}.txt"
        self.process = SERVER.Process(
            target=_work, args=(work, path, self.output, executor, workers, odd)
        )
        self.process.start()
        self._start = time.monotonic()
        self.seconds = 0.0

    def end(self) -> int:
        """Wait for the end; the exit code. A bug's traceback is none of the ends."""
        self.process.join(300)
        assert self.process.exitcode is not None, "the run hangs"
        self.seconds = time.monotonic() - self._start
        assert "Traceback" not in self.told(), self.told()
        return self.process.exitcode

    def told(self) -> str:
        return self.output.read_text() if self.output.exists() else ""


def _work(
    work: Work, path: Path, output: Path, executor: str, workers: int, odd: dict[str, Any]
) -> None:
    # A process started in the background by a shell is deaf to Ctrl-C, and so were its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if odd.get("nobody") and os.geteuid() == 0:
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
    if "back" in odd:
        _set_clock_back(odd["back"])
    with output.open("a") as file, redirect_stdout(file), redirect_stderr(file):
        try:
            sys.exit(work(path, executor, workers))
        except KeyboardInterrupt:
            sys.exit(130)


def _set_clock_back(after: float) -> None:
    real, start = time.time, time.monotonic()
    time.time = lambda: real() - (86_400 if time.monotonic() - start > after else 0)


def undisturbed(work: Work, folder: Path) -> Course:
    """The course of a run that nothing happens to."""
    victim = Victim(work, folder / "undisturbed")
    assert victim.end() == 0, victim.told()
    largest = max(map(len, content(victim.path).values()))
    return Course(work, victim.seconds, largest, ending(victim.path))


def ending(path: Path) -> tuple[Any, ...]:
    """The summary and the ledger of a finished run, seconds aside."""
    return summary(path), rows(path)


def written(path: Path) -> dict[str, bytes]:
    """The files of a run that are written once and stay."""
    return {
        name: data
        for name, data in content(path).items()
        if not name.startswith(GROWING) and not Path(name).name.startswith(".")
    }
