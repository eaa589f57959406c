"""The far side of `processes` and `ray`: what a worker process does."""

from __future__ import annotations

import os
import pickle
import resource
import threading
import traceback
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import torch

from robustkit import extensions
from robustkit.compute.allocator import keep_freed_memory
from robustkit.compute.executors.base import attempt
from robustkit.compute.held import hold
from robustkit.compute.outcomes import Outcome, classify
from robustkit.errors import ConfigError, RobustkitError
from robustkit.usercode import fault

READY = b""
"""The first message of a worker: it has started and takes jobs."""


@dataclass(frozen=True)
class Bug:
    """An exception that is no outcome, with the traceback it had in the worker."""

    error: BaseException
    traceback: str


def serve(connection: Connection, memory_gib: float | None, modules: tuple[str, ...] = ()) -> None:
    """Answer pickled jobs with pickled outcomes until the other side closes the pipe.

    With `memory_gib`, what is allocated from here on is limited to that many GiB of address space.
    `modules` are a person's own, with what they register (see `robustkit.extensions`).
    """
    threading.Thread(target=_die_with_parent, daemon=True).start()
    extensions.load(*modules)
    _settle(memory_gib)
    connection.send_bytes(READY)
    with suppress(EOFError, ConnectionError):
        while True:
            answer = _answer(connection.recv_bytes())
            connection.send_bytes(answer)


class RemoteWorker:
    """The same on a cluster, where an actor's methods take the place of the pipe."""

    def __init__(self, memory_gib: float | None, place: str, modules: tuple[str, ...] = ()) -> None:
        # Relative paths mean the same as to the driver, where its folder is shared.
        if Path(place).is_dir():
            os.chdir(place)
        extensions.load(*modules)
        _settle(memory_gib)

    def hello(self) -> bytes:
        """The actor has started."""
        return READY

    def hold(self, name: str, value: Any) -> None:
        """See `robustkit.compute.held`."""
        hold(name, value)

    def answer(self, request: bytes) -> bytes:
        """The pickled outcome of a pickled job."""
        return _answer(request)


def _settle(memory_gib: float | None) -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    if memory_gib is not None:
        _limit_memory(memory_gib)


def _answer(request: bytes) -> bytes:
    # Plain pickle, not Connection.send: torch teaches that one to pass tensors by shared memory,
    # which is gone when a worker is.
    answer: Outcome | Bug
    try:
        return pickle.dumps(attempt(pickle.loads(request)))  # noqa: S301 - from our own parent
    except BaseException as error:
        said = None if isinstance(error, RobustkitError) else fault(error)
        if said is not None:
            error = ConfigError(said)
        answer = classify(error) or Bug(_portable(error), traceback.format_exc())
    # What this job's nets took of a GPU is of use to the workers beside it, not to an idle one.
    torch.cuda.empty_cache()
    return pickle.dumps(answer)


def _portable(error: BaseException) -> BaseException:
    """`error` itself if it survives pickling, else a `RuntimeError` that quotes it."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - what we have just written
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _limit_memory(gib: float) -> None:
    baseline = psutil.Process().memory_info().vms
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (baseline + int(gib * 2**30), hard))


def _die_with_parent() -> None:
    """Wait for the parent process to end, however it ends, and end with it."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
