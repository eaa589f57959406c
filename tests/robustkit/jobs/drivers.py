"""Processes that drive an executor, to be ended in the middle of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SCRIPT = """
from robustkit.jobs import open_executor
from tests.robustkit.jobs.jobs import Process, Sleep
if __name__ == "__main__":
    with open_executor("{executor}", workers=1) as executor:
        for job, outcome in executor.run(iter([Process(), Sleep(300)])):
            print(outcome.value, flush=True)
"""


@contextmanager
def driver(folder: Path, executor: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The process, its worker being busy, and the worker's process id."""
    script = folder / "driver.py"
    script.write_text(SCRIPT.format(executor=executor))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())


def end(process: subprocess.Popen[str], how: signal.Signals) -> str:
    """End it; an interrupt reaches its whole group, as Ctrl-C does. What it said on stderr."""
    if how == signal.SIGINT:
        os.killpg(process.pid, how)
    else:
        process.send_signal(how)
    return process.communicate(timeout=60)[1]
