"""A real run in a process of its own, to be killed and resumed."""

from __future__ import annotations

import multiprocessing
import random
import signal
import sqlite3
import sys
import time
from collections.abc import Sequence
from contextlib import closing, redirect_stderr, redirect_stdout
from pathlib import Path

from robustkit.cli.main import main
from tests.evolution.protocol.runs import TINY, rows, summary

# A fresh process imports torch for seconds, in which there is nothing to disturb. Here a server
# imports it once, and the processes to be killed are forked from that, having computed nothing.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["evolution.command", "torch._dynamo"])


class Victim:
    """The command `verb` in a process of its own, its output added to a file."""

    def __init__(self, output: Path, *arguments: str, verb: str = "evolve") -> None:
        self.process = SERVER.Process(target=_command, args=(output, verb, arguments))
        self.process.start()

    def kill(self, folder: Path, more: int, delay: float) -> bool:
        """Kill it `delay` seconds after `more` further trials; whether it was still running."""
        wanted = known(folder) + more
        while self.process.is_alive() and known(folder) < wanted:
            time.sleep(0.01)
        self.process.join(delay)
        self.process.kill()
        self.process.join()
        return self.process.exitcode == -signal.SIGKILL


def _command(output: Path, verb: str, arguments: Sequence[str]) -> None:
    with output.open("a") as file, redirect_stdout(file), redirect_stderr(file):
        sys.exit(main([verb, *arguments]))


def known(folder: Path) -> int:
    """How many trials the run has recorded, as far as one can see while it is at work."""
    try:
        with closing(sqlite3.connect(f"file:{folder}/ledger.sqlite?mode=ro", uri=True)) as ledger:
            return int(ledger.execute("SELECT COUNT(*) FROM trials").fetchone()[0])
    except sqlite3.Error:  # not there yet, or just being written
        return 0


def torment(folder: Path, kills: int, executor: Sequence[str], seed: int) -> list[str]:
    """Start the run, kill it `kills` times in all, let it end; what was known at each kill.

    Moments are a random while after a random number of further trials. A run that ends before its
    turn to be killed is one that ended: another begins beside it.
    """
    rng = random.Random(seed)
    folder.mkdir()
    moments: list[str] = []
    run = folder / "run-0"
    while True:
        fresh = not (run / "config.yaml").exists()
        begin = [*TINY, *executor, "--out", str(run)] if fresh else ["--resume", str(run)]
        victim = Victim(folder / "output.txt", *begin)
        if len(moments) == kills:
            victim.process.join()
            assert victim.process.exitcode == 0, (folder / "output.txt").read_text()
            return moments
        if victim.kill(run, more=rng.randint(1, 6), delay=rng.uniform(0.0, 0.5)):
            moments.append(f"{run.name}: killed with {known(run)} trials")
            print(moments[-1])
        else:
            assert victim.process.exitcode == 0, (folder / "output.txt").read_text()
            run = folder / f"run-{int(run.name.split('-')[1]) + 1}"


def compare(folder: Path, finished: Path) -> None:
    for run in sorted(folder.glob("run-*")):
        assert rows(run) == rows(finished), run.name
        assert summary(run) == summary(finished), run.name
        assert not (run / "scratch").exists()
        assert (run / "report.html").is_file()
