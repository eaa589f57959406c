"""What can happen to a run, and what must be so afterwards."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing, redirect_stderr, redirect_stdout
from pathlib import Path
from random import Random
from typing import Any

import psutil

from robustkit.runs import Ledger, RunFolder
from tests.faults.standin import search

# A fresh process imports torch for seconds, in which there is nothing to disturb.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["tests.faults.standin", "torch._dynamo"])
NOBODY = 65534
LENGTH = 0.6  # seconds that a run takes, about: moments are drawn from it


class Victim:
    """A run in a process of its own, its output added to a file."""

    def __init__(self, path: Path, executor: str, workers: int, **odd: Any) -> None:
        self.path, self.output = path, path.parent / f"{path.name}.txt"
        self.process = SERVER.Process(
            target=_work, args=(path, self.output, executor, workers, odd)
        )
        self.process.start()

    def end(self) -> int:
        """Wait for the end; the exit code."""
        self.process.join(120)
        assert self.process.exitcode is not None, "the run hangs"
        return self.process.exitcode

    def told(self) -> str:
        return self.output.read_text() if self.output.exists() else ""


def _work(path: Path, output: Path, executor: str, workers: int, odd: dict[str, Any]) -> None:
    # A process started in the background by a shell is deaf to Ctrl-C, and so were its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if odd.get("nobody") and os.geteuid() == 0:
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
    if "back" in odd:
        _set_clock_back(odd["back"])
    with output.open("a") as file, redirect_stdout(file), redirect_stderr(file):
        try:
            sys.exit(search(path, executor, workers))
        except KeyboardInterrupt:
            sys.exit(130)


def _set_clock_back(after: float) -> None:
    real, start = time.time, time.monotonic()
    time.time = lambda: real() - (86_400 if time.monotonic() - start > after else 0)


def known(path: Path, mode: str = "ro") -> dict[str, tuple[Any, ...]]:
    """The trials on the disk, by id, as far as one can see from outside.

    After a death `mode` is "rw": what was begun and not committed has to be rolled back.
    """
    try:
        with closing(sqlite3.connect(f"file:{path}/ledger.sqlite?mode={mode}", uri=True)) as ledger:
            query = "SELECT id, key, payload, outcome, reason, result, number FROM trials"
            return {row[0]: row for row in ledger.execute(query)}
    except sqlite3.Error:
        return {}


def _signalled(how: signal.Signals) -> Callable[[Victim, Random], bool]:
    def strike(victim: Victim, rng: Random) -> bool:
        victim.process.join(rng.uniform(0, LENGTH))
        if victim.process.is_alive():
            os.kill(victim.process.pid or 0, how)
        return victim.end() in (-how, 130)

    return strike


def _full(victim: Victim, rng: Random) -> bool:
    """No file of the run may grow beyond a limit any more."""
    victim.process.join(rng.uniform(0, LENGTH))
    limit = rng.randrange(2_000, 60_000)  # what the run says of it has to fit
    try:
        hard = resource.RLIM_INFINITY
        resource.prlimit(victim.process.pid or 0, resource.RLIMIT_FSIZE, (limit, hard))
    except ProcessLookupError:
        pass
    code = victim.end()
    assert code in (0, 2), victim.told()
    if code == 2:
        # SQLite calls a file that may not grow an I/O error, and a disk without space full.
        last = victim.told().splitlines()[-1]
        reasons = ("no space left on the device", "disk I/O error")
        assert last.startswith("error: "), victim.told()
        assert any(last.endswith(reason) for reason in reasons), victim.told()
    return code == 2


def _read_only(victim: Victim, rng: Random) -> bool:
    """The folder may not be written to any more."""
    victim.process.join(rng.uniform(0, LENGTH))
    if victim.path.is_dir():
        victim.path.chmod(0o555)
    code = victim.end()
    if victim.path.is_dir():
        victim.path.chmod(0o755)
    assert code in (0, 2), victim.told()
    if code == 2:
        last = victim.told().splitlines()[-1]
        assert last.startswith("error: "), victim.told()
        assert str(victim.path) in last
    return code == 2


def _clock(victim: Victim, rng: Random) -> bool:
    """The clock was set back by a day on the way, which must disturb nothing."""
    return victim.end() == 0


def _second(victim: Victim, rng: Random) -> bool:
    """Another process wants the same folder."""
    while victim.process.is_alive() and not (victim.path / "ledger.sqlite").exists():
        time.sleep(0.001)
    victim.process.join(rng.uniform(0, LENGTH / 2))
    other = Victim(victim.path, "inline", 1)
    code = other.end()
    assert victim.end() == 0, victim.told()
    assert code in (0, 2), victim.told()
    if code == 2:
        assert "is in use by another process" in victim.told()
    return code == 2


def _worker(victim: Victim, rng: Random) -> bool:
    """A worker process dies on the way: once or twice, so that no job loses all its tries."""
    killed, wanted = 0, rng.randint(1, 2)
    while victim.process.is_alive() and killed < wanted:
        if not known(victim.path):
            time.sleep(0.01)
            continue
        victim.process.join(rng.uniform(0.0, LENGTH / 3))
        try:
            children = psutil.Process(victim.process.pid or 0).children()
            workers = [each for each in children if "spawn_main" in " ".join(each.cmdline())]
            if workers:
                rng.choice(workers).kill()
                killed += 1
        except psutil.Error:
            break
    assert victim.end() == 0, victim.told()
    return killed > 0


FAULTS: dict[str, tuple[Callable[[Victim, Random], bool], dict[str, Any]]] = {
    "kill -9 of the driver": (_signalled(signal.SIGKILL), {}),
    "SIGTERM": (_signalled(signal.SIGTERM), {}),
    "Ctrl-C": (_signalled(signal.SIGINT), {}),
    "a full disk": (_full, {}),
    "a read-only folder": (_read_only, {"nobody": True}),
    "the clock set back": (_clock, {"back": 0.2}),
    "two processes on one folder": (_second, {}),
    "kill -9 of a worker": (_worker, {"executor": "processes", "workers": 2}),
}


def undisturbed(folder: Path) -> dict[str, Any]:
    """The summary of a run that nothing happens to."""
    assert search(folder / "undisturbed") == 0
    return RunFolder.open(folder / "undisturbed").summary() or {}


def suffer(name: str, number: int, folder: Path, wanted: dict[str, Any]) -> bool:
    """One run with the fault `name`; whether it struck. Raises `AssertionError` if it did harm.

    Whatever was on the disk when it struck is still there at the end, word for word, and was not
    computed again; and the end is that of an undisturbed run.
    """
    strike, odd = FAULTS[name]
    path, rng = folder / f"{name.replace(' ', '-')}-{number}", Random(f"{name}/{number}")
    odd = dict(odd)
    executor, workers = odd.pop("executor", "inline"), odd.pop("workers", 1)
    if odd.get("nobody"):
        folder.chmod(0o777)
    if "back" in odd:
        odd["back"] = rng.uniform(0, LENGTH)
    struck = strike(Victim(path, executor, workers, **odd), rng)
    before = known(path, "rw")
    finished = path.is_dir() and (path / "summary.json").exists()
    again = Victim(path, executor, workers, **{k: v for k, v in odd.items() if k == "nobody"})
    assert again.end() == 0, again.told()
    after = known(path, "rw")
    assert all(after[trial] == row for trial, row in before.items())
    run = RunFolder.open(path)
    found = run.summary() or {}
    assert found == wanted, (found, wanted)
    ran = [each["ran"] for each in run.metrics() if "ran" in each]
    if not finished:
        assert ran[-1] == len(after) - len(before), (ran, len(after), len(before))
    with Ledger.open(path / "ledger.sqlite") as ledger:
        numbers = sorted(each.payload["number"] for each in ledger.trials())
    assert numbers == list(range(len(numbers)))
    return struck
