"""Tests run on a mutated copy of the repository, one fork for each mutant."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tests.mutants.mutant import Mutant

COPIED = (
    "robustkit",
    "evolution",
    "adaptation",
    "experiments",
    "tests",
    "setup.cfg",
    "pyproject.toml",
)


@dataclass(frozen=True)
class MutantRun:
    """`killer` is the test that failed first, or empty where every test passed."""

    killer: str
    seconds: float


class MutantError(Exception):
    """The tests did not run to an end that says anything about the mutant."""


def copied(root: Path, folder: Path, parts: Sequence[str] = COPIED) -> Path:
    """A copy of what the tests need, without compiled files."""
    for part in parts:
        if (root / part).is_dir():
            shutil.copytree(
                root / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "results")
            )
        else:
            shutil.copy(root / part, folder / part)
    return folder


def run_mutant(copy: Path, mutant: Mutant, limit: float | None) -> MutantRun:
    """Put the mistake into the copy, run its tests, and take it out again; see `passed`."""
    path = copy / mutant.file
    source = path.read_text()
    path.write_text(mutant.mutated(source))
    try:
        return passed(copy, mutant.tests, limit)
    finally:
        path.write_text(source)


def passed(copy: Path, tests: Sequence[str], limit: float | None) -> MutantRun:
    """Run `tests` of the copy up to the first failure, in a fork of this process.

    Forks start with all that this process has imported, so that a result takes the time of its
    tests alone. Raises `MutantError` where they cannot be collected, or come to no end within
    `limit` seconds: a busy machine is no test.
    """
    fork, start = multiprocessing.get_context("fork"), time.monotonic()
    here, there = fork.Pipe(duplex=False)
    child = fork.Process(target=_run, args=(copy, tuple(tests), there))
    child.start()
    there.close()
    try:
        if not here.poll(limit):
            raise MutantError(f"no end within {limit:g} s")
        code, failed, said = here.recv()
    except EOFError:
        raise MutantError("the process died") from None
    finally:
        child.kill()
        child.join()
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise MutantError(f"pytest ended with {code}:\n{said}")
    return MutantRun(failed, time.monotonic() - start)


def _run(copy: Path, tests: tuple[str, ...], answer: Connection) -> None:
    os.chdir(copy)
    # Every package comes from the copy. Compiled files are told from stale ones by size
    # and second, which a mutant may share with its original.
    sys.dont_write_bytecode = True
    for name in list(sys.modules):
        if name.split(".")[0] in COPIED:
            del sys.modules[name]
    sys.path.insert(0, str(copy))
    seen, told = _Failures(), io.StringIO()
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "ignore"]
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        code = pytest.main([*options, *tests], plugins=[seen])
    answer.send((int(code), seen.first, told.getvalue()))
    answer.close()
    os._exit(0)


class _Failures:
    """Remembers the first test that failed."""

    def __init__(self) -> None:
        self.first = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.first:
            self.first = report.nodeid
