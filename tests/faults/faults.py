"""What can happen to a run, and what must be so afterwards."""

from __future__ import annotations

import math
import os
import resource
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from typing import Any

import psutil

from robustkit.runs import RunFolder
from tests.faults.victim import Course, Victim, ending, written

Strike = Callable[[Victim, Course, Random], bool]
"""Does the harm at a random moment and waits for the end of the victim; whether it struck."""


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


def _signalled(how: signal.Signals) -> Strike:
    def strike(victim: Victim, course: Course, rng: Random) -> bool:
        victim.process.join(rng.uniform(0, course.seconds))
        if victim.process.is_alive():
            os.kill(victim.process.pid or 0, how)
        code = victim.end()
        assert code in (0, -how, 130), victim.told()
        return code != 0

    return strike


def _full(victim: Victim, course: Course, rng: Random) -> bool:
    """No file of the run may grow beyond a limit any more."""
    victim.process.join(rng.uniform(0, course.seconds))
    # What the run says of it has to fit; small files are as likely to be struck as large ones.
    limit = round(math.exp(rng.uniform(math.log(4_000), math.log(course.largest))))
    with suppress(ProcessLookupError):
        hard = resource.RLIM_INFINITY
        resource.prlimit(victim.process.pid or 0, resource.RLIMIT_FSIZE, (limit, hard))
    code = victim.end()
    assert code in (0, 2), victim.told()
    if code == 2:
        # SQLite calls a file that may not grow an I/O error, and a disk without space full.
        last = victim.told().splitlines()[-1]
        reasons = ("no space left on the device", "disk I/O error")
        assert last.startswith("robustkit: error: "), victim.told()
        assert any(last.endswith(reason) for reason in reasons), victim.told()
    return code == 2


def _permit(path: Path, mode: int) -> None:
    for folder, _, _ in os.walk(path):
        with suppress(FileNotFoundError):
            Path(folder).chmod(mode)


def _read_only(victim: Victim, course: Course, rng: Random) -> bool:
    """The folder, and whatever it holds, may not be written to any more."""
    victim.process.join(rng.uniform(0, course.seconds))
    _permit(victim.path, 0o555)
    code = victim.end()
    _permit(victim.path, 0o755)
    assert code in (0, 2), victim.told()
    if code == 2:
        last = victim.told().splitlines()[-1]
        assert last.startswith("robustkit: error: "), victim.told()
        assert str(victim.path) in last
    return code == 2


def _clock(victim: Victim, course: Course, rng: Random) -> bool:
    """The clock was set back by a day on the way, which must disturb nothing."""
    return victim.end() == 0


def _second(victim: Victim, course: Course, rng: Random) -> bool:
    """Another process wants the same folder."""
    while victim.process.is_alive() and not (victim.path / "ledger.sqlite").exists():
        time.sleep(0.001)
    victim.process.join(rng.uniform(0, course.seconds / 2))
    other = Victim(course.work, victim.path)
    code = other.end()
    assert victim.end() == 0, victim.told()
    assert code in (0, 2), victim.told()
    if code == 2:
        assert "is in use by another process" in victim.told()
    return code == 2


def _worker(victim: Victim, course: Course, rng: Random) -> bool:
    """A worker process dies on the way: once or twice, so that no job loses all its tries."""
    killed, wanted = 0, rng.randint(1, 2)
    while victim.process.is_alive() and killed < wanted:
        if not known(victim.path):
            time.sleep(0.01)
            continue
        victim.process.join(rng.uniform(0, course.seconds / 3))
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


FAULTS: dict[str, tuple[Strike, dict[str, Any]]] = {
    "kill -9 of the driver": (_signalled(signal.SIGKILL), {}),
    "SIGTERM": (_signalled(signal.SIGTERM), {}),
    "Ctrl-C": (_signalled(signal.SIGINT), {}),
    "a full disk": (_full, {}),
    "a read-only folder": (_read_only, {"nobody": True}),
    "the clock set back": (_clock, {"back": 0.2}),
    "two processes on one folder": (_second, {}),
    "kill -9 of a worker": (_worker, {"executor": "processes", "workers": 2}),
}


def suffer(name: str, number: int, folder: Path, course: Course) -> bool:
    """One run with the fault `name`; whether it struck. Raises `AssertionError` if it did harm.

    Whatever was on the disk when it struck is still there at the end, word for word, and was not
    computed again; and the end is that of an undisturbed run.
    """
    strike, odd = FAULTS[name]
    path, rng = folder / f"{name.replace(' ', '-')}-{number}", Random(f"{name}/{number}")
    odd = dict(odd)
    if odd.get("nobody"):
        folder.chmod(0o777)
    if "back" in odd:
        odd["back"] = rng.uniform(0, course.seconds)
    struck = strike(Victim(course.work, path, **odd), course, rng)
    before, files = known(path, "rw"), written(path)
    odd.pop("back", None)
    again = Victim(course.work, path, **odd)
    assert again.end() == 0, again.told()
    after, kept = known(path, "rw"), written(path)
    changed = [name for name, row in before.items() if after.get(name) != row]
    changed += [name for name, data in files.items() if kept.get(name) != data]
    assert not changed, changed
    found = ending(path)
    assert found == course.end, (found, course.end)
    ran = [each["ran"] for each in RunFolder.open(path).metrics() if "ran" in each]
    if ran and "summary.json" not in files:
        assert ran[-1] == len(after) - len(before), (ran, len(after), len(before))
    return struck
