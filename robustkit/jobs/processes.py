"""Jobs in worker processes, which can be stopped and may die."""

from __future__ import annotations

import math
import multiprocessing
import os
import pickle
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import parent_process, resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Self, cast

import psutil
import torch

from robustkit import extensions
from robustkit.compute.devices import keep_freed_memory
from robustkit.errors import ConfigError, DeviceError, RobustkitError
from robustkit.jobs.executors import (
    EXECUTORS,
    NOTHING_RUNS,
    TRIES,
    Cluster,
    J,
    Runnable,
    attempt,
    refuse_cluster,
)
from robustkit.jobs.outcomes import Lost, Outcome, Timeout, classify
from robustkit.jobs.shared import share
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

    `memory_gib` limits what is allocated from here on, in GiB of address space. `modules` are the
    user's extensions, imported before the first job (see `robustkit.extensions`).
    """
    threading.Thread(target=_die_with_parent, daemon=True).start()
    extensions.load(*modules)
    _limit_resources(memory_gib)
    connection.send_bytes(READY)
    with suppress(EOFError, ConnectionError):
        while True:
            answer = _answer(connection.recv_bytes())
            connection.send_bytes(answer)


class RemoteWorker:
    """A worker on a cluster: `serve` with an actor's methods in place of the pipe."""

    def __init__(
        self, memory_gib: float | None, folder: str, modules: tuple[str, ...] = ()
    ) -> None:
        # Relative paths mean the same as to the driver, where its folder is shared.
        if Path(folder).is_dir():
            os.chdir(folder)
        extensions.load(*modules)
        _limit_resources(memory_gib)

    def hello(self) -> bytes:
        """Return `READY`: the actor has started."""
        return READY

    def share(self, name: str, value: Any) -> None:
        """See `robustkit.jobs.share`."""
        share(name, value)

    def answer(self, request: bytes) -> bytes:
        """Return the pickled outcome of a pickled job."""
        return _answer(request)


def _limit_resources(memory_gib: float | None) -> None:
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
        message = None if isinstance(error, RobustkitError) else fault(error)
        if message is not None:
            error = ConfigError(message)
        answer = classify(error) or Bug(_portable(error), traceback.format_exc())
    # Memory that this job's networks took of a GPU is of use to other workers, not to an idle one.
    torch.cuda.empty_cache()
    return pickle.dumps(answer)


def _portable(error: BaseException) -> BaseException:
    """Return `error` if it survives pickling, else a `RuntimeError` that quotes it."""
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


@EXECUTORS.register("processes")
class ProcessExecutor:
    """Runs up to `workers` jobs at a time, each in a worker process that is started when needed.

    A job that runs past `timeout` seconds, counted from when a started worker receives it, is
    stopped with its worker: `Timeout`. A job whose worker dies is run again twice, then it is
    `Lost`. A job that allocates more than `memory_gib` GiB of address space is `OutOfMemory`
    (Linux; not together with CUDA, which reserves far more than it uses). Workers end with the
    context, with an exception, and with this process. Raises `DeviceError` when workers cannot be
    started.
    """

    def __init__(
        self,
        *,
        workers: int = 1,
        timeout: float | None = None,
        memory_gib: float | None = None,
        cluster: Cluster | None = None,
    ) -> None:
        refuse_cluster("processes", cluster)
        if memory_gib is not None and sys.platform != "linux":
            raise DeviceError(f"memory_gib = {memory_gib:g} cannot be kept on {sys.platform}")
        self._count = workers
        self._timeout = timeout
        self._memory_gib = memory_gib
        self._workers: list[_Worker] = []
        self._any_started = False

    def run(self, jobs: Iterator[J | None]) -> Iterator[tuple[J, Outcome]]:
        """See `Executor.run`. Jobs that are running when the caller stops iterating are stopped."""
        try:
            while self._fill(jobs):
                job, outcome = self._next_completion()
                yield cast(J, job), outcome
        finally:
            for worker in self._busy():
                self._discard(worker)

    def share(self, name: str, make: Callable[[], Any]) -> None:
        """See `Executor.share`: files will do."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """End all workers."""
        for worker in self._workers:
            worker.connection.close()
        for worker in self._workers:
            if worker.ready:
                worker.process.join(timeout=1)
            worker.stop()
        self._workers.clear()

    def _busy(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.job is not None]

    def _fill(self, jobs: Iterator[J | None]) -> bool:
        """Give a job to every free worker; return whether any job is running."""
        while (busy := len(self._busy())) < self._count:
            try:
                job = next(jobs)
            except StopIteration:
                return busy > 0
            if job is not None:
                self._assign(job)
            elif busy == 0:
                raise RuntimeError(NOTHING_RUNS)
            else:
                return True
        return True

    def _assign(self, job: Runnable, deaths: int = 0) -> None:
        """Give `job` to an idle worker whose process lives, or to a new one."""
        for idle in [worker for worker in self._workers if worker.job is None]:
            if idle.process.is_alive():
                worker = idle
                break
            self._discard(idle)
        else:
            worker = _Worker(self._memory_gib)
            self._workers.append(worker)
        worker.take(job, getattr(job, "timeout", self._timeout), deaths)

    def _next_completion(self) -> tuple[Runnable, Outcome]:
        """Wait for the next job to end and return it with its outcome."""
        while True:
            busy = self._busy()
            deadline = min(worker.deadline for worker in busy)
            remaining = None if deadline == math.inf else max(0.0, deadline - time.monotonic())
            readable = wait([worker.connection for worker in busy], remaining)
            for worker in busy:
                job = worker.job
                if worker.connection in readable:
                    outcome = self._receive(worker)
                elif worker.deadline <= time.monotonic():
                    outcome = self._stop_overdue(worker)
                else:
                    continue
                if job is not None and outcome is not None:
                    return job, outcome

    def _receive(self, worker: _Worker) -> Outcome | None:
        """Return the outcome in a worker's message, or None if its job has not ended."""
        try:
            message = worker.connection.recv_bytes()
        except (EOFError, OSError):
            return self._restart(worker)
        if message == READY:
            self._any_started = True
            worker.start()
            return None
        worker.rest()
        answer: Outcome | Bug = pickle.loads(message)  # noqa: S301 - from our own worker
        if isinstance(answer, Bug):
            answer.error.add_note(f"\nIn the worker process:\n{answer.traceback}")
            raise answer.error
        return answer

    def _restart(self, worker: _Worker) -> Outcome | None:
        """Start the job of a dead worker again, or return `Lost` after the last try."""
        job, deaths = worker.job, worker.deaths + 1
        worker.process.join(timeout=1)  # its pipe closes a moment before it has an exit code
        self._discard(worker)
        code = worker.process.exitcode or 0
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        if deaths < TRIES and job is not None:
            self._assign(job, deaths)
            return None
        if not self._any_started:
            raise DeviceError(f"worker processes do not start ({how}); see their messages above")
        return Lost(f"its worker died {deaths} times, at last with {how}", worker.elapsed())

    def _stop_overdue(self, worker: _Worker) -> Outcome:
        seconds = worker.elapsed()
        self._discard(worker)
        return Timeout(f"no result within {worker.limit:g} seconds", seconds)

    def _discard(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.stop()


class _Worker:
    """A worker process as its parent sees it: starting, idle, or busy with a job."""

    def __init__(self, memory_gib: float | None) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, far_end = context.Pipe()
        arguments = (far_end, memory_gib, extensions.loaded())
        self.process = context.Process(target=serve, args=arguments, daemon=True)
        try:
            _start_ignoring_interrupts(self.process)
        except OSError as error:  # too many processes or open files, no memory for another
            raise DeviceError(f"worker processes cannot be started: {error.strerror}") from error
        finally:
            far_end.close()
        self.ready = False
        self.job: Runnable | None = None
        self.deaths = 0
        self.limit: float = math.inf
        self.deadline: float = math.inf
        self._since: float = time.monotonic()

    def take(self, job: Runnable, limit: float | None, deaths: int) -> None:
        """Take `job`; a worker that is still starting receives it when it is ready."""
        self.job, self.deaths = job, deaths
        self.limit = math.inf if limit is None else limit
        if self.ready:
            self._send()

    def start(self) -> None:
        """Send the waiting job: the process has started."""
        self.ready = True
        self._send()

    def rest(self) -> None:
        """Become idle: the job has ended."""
        self.job, self.deadline = None, math.inf

    def elapsed(self) -> float:
        """Return the seconds since the job was sent."""
        return time.monotonic() - self._since

    def stop(self) -> None:
        """End the process now."""
        self.process.kill()
        self.process.join()
        self.connection.close()

    def _send(self) -> None:
        self._since = time.monotonic()
        self.deadline = self._since + self.limit
        # If the worker has died, the next wait says so.
        with suppress(ConnectionError):
            self.connection.send_bytes(pickle.dumps(self.job))


def _start_ignoring_interrupts(process: Any) -> None:
    """Start `process` so that Ctrl-C, which reaches the whole group, interrupts the parent only.

    A blocked signal stays blocked in a spawned process. The resource tracker is started first,
    because starting it unblocks interrupts.
    """
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
