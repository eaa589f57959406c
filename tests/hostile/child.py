"""Carry out a case in a forked child with bounds of time and memory, and judge how it ended."""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import signal
import stat
import sys
import threading
import time
import traceback
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from tests.hostile.case import Case, Ending, Place, Send

ROOT = Path(__file__).parents[2]
_QUIET = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)


def complaints(case: Case, place: Place) -> list[str]:
    """Everything that is wrong with how a case ended; nothing if it ended well."""
    arguments = list(case.prepare(place))
    before = _prints(place.outside)
    ending = _carried_out(case, place, arguments)
    found = list(_judged(case, ending))
    if _prints(place.outside) != before:
        found.append("files outside were touched")
    if case.after is not None and (complaint := case.after(place, ending)):
        found.append(complaint)
    return found


def _carried_out(case: Case, place: Place, arguments: list[str]) -> Ending:
    out, err = place.here.parent / "stdout", place.here.parent / "stderr"
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            code = _run(case, place, arguments, out, err)
        finally:
            os._exit(code)
    if case.during is not None:
        # By its descriptor: a number is given to somebody else once its process has ended.
        descriptor = os.pidfd_open(child)
        threading.Thread(target=_beside, args=(case.during, place, descriptor), daemon=True).start()
    ended = None
    while ended is None and time.monotonic() < start + case.seconds:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            ended = os.waitstatus_to_exitcode(status)
        else:
            time.sleep(0.005)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # also workers that outlived it
    if ended is None:
        os.waitpid(child, 0)
    seconds = time.monotonic() - start
    said, wrong = (each.read_bytes().decode("utf-8", "backslashreplace") for each in (out, err))
    return Ending(ended, said, wrong, seconds)


def _beside(during: Callable[[Place, Send], None], place: Place, descriptor: int) -> None:
    def send(number: int) -> None:
        signal.pidfd_send_signal(descriptor, number)

    with contextlib.suppress(ProcessLookupError):
        during(place, send)
    os.close(descriptor)


def _run(case: Case, place: Place, arguments: list[str], out: Path, err: Path) -> int:
    """The child's life: streams, limits and warnings as a process of its own has them."""
    os.setsid()
    os.chdir(place.here)
    for number, path in ((1, out), (2, err)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        os.dup2(opened, number)
    quiet = os.open(os.devnull, os.O_RDONLY)
    os.dup2(quiet, 0)
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    os.environ.update(case.env)
    warnings.resetwarnings()
    warnings.simplefilter("default")
    for each in _QUIET:
        warnings.simplefilter("ignore", each)
    room = psutil.Process().memory_info().vms + case.memory
    resource.setrlimit(resource.RLIMIT_AS, (room, resource.RLIM_INFINITY))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from robustkit.cli.main import main

    if case.before is not None:
        case.before(place)
    if case.fresh:
        os.environ["PYTHONPATH"] = os.pathsep.join((str(ROOT), *filter(None, sys.path)))
        os.execv(sys.executable, [sys.executable, "-m", "robustkit", *arguments])
    sys.argv = ["robustkit", *arguments]
    try:
        code = main()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    return code


def _judged(case: Case, ending: Ending) -> Iterator[str]:
    shown = ending.err[-2000:]
    if ending.code is None:
        yield f"it did not end within {case.seconds:g} s; stderr: {shown}"
        return
    if ending.code not in case.ends:
        yield f"exit code {ending.code}, not {case.ends}; stderr: {shown}"
    for word in ("Traceback (most recent", "Exception ignored", "Warning: "):
        if word in ending.err:
            yield f"'{word}' on stderr: {shown}"
    lines = ending.err.splitlines()
    if ending.code == 2 and not case.mute:
        told = [line for line in lines if line.startswith("robustkit: error: ")]
        if len(told) != 1 or lines[-1:] != told:
            yield f"not one line that says what is wrong: {shown}"
        elif case.says and case.says not in told[0]:
            yield f"the line does not say '{case.says}': {told[0]}"
    for name, text in (("stdout", ending.out), ("stderr", ending.err)):
        raw = {each for each in text if unicodedata.category(each) == "Cc"} - {"\n", "\t"}
        if raw:
            yield f"control characters on {name}: {sorted(raw)}"


def _prints(folder: Path) -> dict[str, tuple[object, ...]]:
    """What is below a folder: kinds, sizes, times and contents."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        digest = hashlib.sha256(content).hexdigest()
        found[str(path)] = (status.st_mode, status.st_size, status.st_mtime_ns, digest)
    return found
