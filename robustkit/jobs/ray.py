"""Jobs in Ray's actors: on this machine, or on every machine of a cluster."""

from __future__ import annotations

import logging
import math
import os
import pickle
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, cast

from robustkit import extensions
from robustkit.errors import ConfigError, DeviceError, first_line
from robustkit.jobs.executors import EXECUTORS, NOTHING_RUNS, TRIES, Cluster, J, Runnable
from robustkit.jobs.outcomes import Lost, Outcome, OutOfMemory, Timeout
from robustkit.jobs.processes import Bug, RemoteWorker

ANSWER = 10.0  # seconds within which the head of a cluster has to answer
# How HTTP/2, and with it gRPC, begins a connection on both sides (RFC 9113, 3.4): with a frame of
# settings, of which nine bytes are the head and the fourth is the type.
_SETTINGS, _FRAME = b"\x04", 9
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + _SETTINGS + b"\0" * 5
PATIENCE = 300.0  # seconds without any worker after which a cluster is taken to have no room
INSTALL = "pip install 'robustkit[ray]'"


@EXECUTORS.register("ray")
class RayExecutor:
    """Runs up to `workers` jobs at a time in actors of Ray, started as the cluster has room.

    With `workers` 0 there are as many as the cluster has room for when it is joined. Limits are
    kept as by `ProcessExecutor`: an overdue job is killed with its actor, a job whose actor or
    machine dies is run again twice, then it is `Lost`. Jobs must find on every machine the files
    that they name; what is shared travels through Ray's object store, once to each machine.

    Raises `ConfigError` when Ray is not installed, and `DeviceError` when the cluster cannot be
    reached or has no room for one worker.
    """

    def __init__(
        self,
        *,
        workers: int = 0,
        timeout: float | None = None,
        memory_gib: float | None = None,
        cluster: Cluster | None = None,
    ) -> None:
        self._ray = _imported()
        self._cluster = cluster or Cluster()
        self._count, self._timeout, self._memory_gib = workers, timeout, memory_gib
        self._joined = self._ours = False
        self._failed_starts = 0
        self._waiting: deque[_Task] = deque()
        self._actors: list[_Actor] = []
        self._shared: dict[str, object] = {}

    def __enter__(self) -> Self:
        # Another's cluster is joined at once, so that a wrong address shows before anything is
        # made; one of our own takes seconds to start, and perhaps nothing is to be run.
        if self._cluster.address is not None:
            self._join()
        return self

    def __exit__(self, *exception: object) -> None:
        """End all actors, and the cluster if it was started here."""
        for actor in list(self._actors):
            self._discard(actor)
        self._shared.clear()
        if self._ours:
            self._ray.shutdown()
        self._joined = self._ours = False

    def share(self, name: str, make: Callable[[], Any]) -> None:
        """See `Executor.share`: arrays in it are mapped read-only, not copied."""
        self._join()
        self._shared[name] = reference = self._ray.put(make())
        for actor in self._actors:
            actor.handle.share.remote(name, reference)

    def run(self, jobs: Iterator[J | None]) -> Iterator[tuple[J, Outcome]]:
        """See `Executor.run`. Jobs that are running when the caller stops iterating are killed."""
        self._join()
        try:
            while self._fill(jobs):
                job, outcome = self._next_completion()
                yield cast(J, job), outcome
        finally:
            self._waiting.clear()
            for actor in self._busy():
                self._discard(actor)

    def _join(self) -> None:
        if self._joined:
            return
        if not self._ray.is_initialized():
            _start(self._ray, self._cluster, self._count)
            self._ours = True
        self._joined = True
        self._count = self._count or _room(self._ray, self._cluster)
        missing = self._cluster.gpus_per_trial > 0 and not self._ray.cluster_resources().get("GPU")
        if missing:
            raise DeviceError("gpus_per_trial is above 0, but the cluster has no GPU")

    def _busy(self) -> list[_Actor]:
        return [actor for actor in self._actors if actor.task is not None]

    def _fill(self, jobs: Iterator[J | None]) -> bool:
        """Take jobs while there are workers for them; whether any is under way."""
        while (taken := len(self._busy()) + len(self._waiting)) < self._count:
            try:
                job = next(jobs)
            except StopIteration:
                return taken > 0
            if job is not None:
                limit = getattr(job, "timeout", self._timeout)
                self._waiting.append(_Task(job, math.inf if limit is None else limit))
            elif taken == 0:
                raise RuntimeError(NOTHING_RUNS)
            else:
                return True
        return True

    def _dispatch(self) -> None:
        """Give waiting jobs to idle actors, and start as many actors as are still wanted."""
        for actor in [item for item in self._actors if item.ready and item.task is None]:
            if not self._waiting:
                return
            if actor.done >= self._cluster.recycle:
                self._discard(actor)
            else:
                actor.take(self._waiting.popleft())
        starting = sum(not actor.ready for actor in self._actors)
        for _ in range(min(len(self._waiting) - starting, self._count - len(self._actors))):
            self._actors.append(self._new_actor())

    def _new_actor(self) -> _Actor:
        cluster = self._cluster
        kind = self._ray.remote(
            num_cpus=cluster.cpus_per_trial,
            num_gpus=cluster.gpus_per_trial,
            max_restarts=0,
            max_task_retries=0,
        )(RemoteWorker)
        handle = kind.remote(self._memory_gib, str(Path.cwd()), extensions.loaded())
        for name, reference in self._shared.items():
            handle.share.remote(name, reference)
        return _Actor(handle, handle.hello.remote())

    def _next_completion(self) -> tuple[Runnable, Outcome]:
        """Wait until a job has ended."""
        since = time.monotonic()
        while True:
            self._dispatch()
            heard, _ = self._ray.wait(
                [actor.reference for actor in self._actors if actor.reference is not None],
                timeout=self._remaining(since),
            )
            for actor in list(self._actors):
                ended = None
                if actor.reference in heard:
                    since = time.monotonic()
                    ended = self._hear(actor)
                elif actor.deadline <= time.monotonic():
                    ended = self._stop_overdue(actor)
                if ended is not None:
                    return ended
            if not any(actor.ready for actor in self._actors):
                self._check_patience(since)

    def _remaining(self, since: float) -> float:
        """Return the seconds until the next deadline, or until waiting for a cluster ends."""
        ends = min((actor.deadline for actor in self._actors), default=math.inf)
        return max(0.0, min(ends, since + PATIENCE) - time.monotonic())

    def _check_patience(self, since: float) -> None:
        if time.monotonic() - since >= PATIENCE:
            cluster = self._cluster
            raise DeviceError(
                f"no worker could be started within {PATIENCE:g} seconds: each needs "
                f"{cluster.cpus_per_trial:g} CPUs and {cluster.gpus_per_trial:g} GPUs of the "
                "cluster"
            )

    def _hear(self, actor: _Actor) -> tuple[Runnable, Outcome] | None:
        """Take an actor's message: how its job has ended, or that it is ready for one."""
        try:
            message = self._ray.get(actor.reference)
        except self._ray.exceptions.RayError as error:
            return self._bury(actor, error)
        task = actor.task
        actor.rest()
        if task is None:
            self._failed_starts = 0
            return None
        answer: Outcome | Bug = pickle.loads(message)  # noqa: S301 - from our own actor
        if isinstance(answer, Bug):
            answer.error.add_note(f"\nIn the worker process:\n{answer.traceback}")
            raise answer.error
        return task.job, answer

    def _bury(self, actor: _Actor, error: Exception) -> tuple[Runnable, Outcome] | None:
        """Run the job of a dead actor again, or give it up."""
        task, seconds = actor.task, actor.elapsed()
        self._discard(actor)
        if not actor.ready:
            self._failed_starts += 1
            if self._failed_starts == TRIES:
                raise DeviceError(f"workers do not start on the cluster: {first_line(error)}")
        if task is not None:
            if isinstance(error, self._ray.exceptions.OutOfMemoryError):
                return task.job, OutOfMemory("its machine ran out of memory", seconds)
            task.deaths += 1
            if task.deaths == TRIES:
                why = type(error).__name__
                return task.job, Lost(f"its worker died {TRIES} times, at last with {why}", seconds)
            self._waiting.appendleft(task)
        return None

    def _stop_overdue(self, actor: _Actor) -> tuple[Runnable, Outcome]:
        task, seconds = actor.task, actor.elapsed()
        assert task is not None  # an idle actor has no deadline
        self._discard(actor)
        return task.job, Timeout(f"no result within {task.limit:g} seconds", seconds)

    def _discard(self, actor: _Actor) -> None:
        self._actors.remove(actor)
        if self._ray.is_initialized():
            self._ray.kill(actor.handle)


@dataclass
class _Task:
    job: Runnable
    limit: float
    deaths: int = 0


@dataclass(eq=False)
class _Actor:
    """An actor as the driver sees it: starting, idle, or busy with a task.

    `reference` is of the one message that is awaited of it.
    """

    handle: Any
    reference: Any
    ready: bool = False
    task: _Task | None = None
    done: int = 0
    deadline: float = math.inf
    since: float = field(default_factory=time.monotonic)

    def take(self, task: _Task) -> None:
        self.task, self.since = task, time.monotonic()
        self.deadline = self.since + task.limit
        self.reference = self.handle.answer.remote(pickle.dumps(task.job))

    def rest(self) -> None:
        self.ready, self.reference, self.deadline = True, None, math.inf
        self.done += self.task is not None
        self.task = None

    def elapsed(self) -> float:
        return time.monotonic() - self.since


def _imported() -> Any:
    # Reporting of use is for the user to switch on, not for a library.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise ConfigError(f"executor 'ray' needs Ray, which is not installed: {INSTALL}") from None
    return ray


def _start(ray: Any, cluster: Cluster, workers: int) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if cluster.address is None:
            # Jobs may be more than processors: that is what the number of workers says.
            cpus = math.ceil(workers * cluster.cpus_per_trial) or None
            ray.init(address="local", num_cpus=cpus, include_dashboard=False, **quiet)
        else:
            address = (
                os.environ.get("RAY_ADDRESS") if cluster.address == "auto" else cluster.address
            )
            _check_answers(address or "")
            ray.init(address=cluster.address, **quiet)
    except (ConnectionError, OSError, ValueError, RuntimeError) as error:
        where = "of this machine" if cluster.address is None else f"at '{cluster.address}'"
        raise DeviceError(f"no Ray cluster {where}: {first_line(error)}") from None


def _check_answers(address: str) -> None:
    """Raise `OSError` unless a gRPC server is at HOST:PORT, as a cluster's head is.

    Ray itself would try for minutes, and print lines about it.
    """
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal() or os.environ.get("RAY_USE_TLS") == "1":
        return
    with socket.create_connection((host.strip("[]"), int(port)), ANSWER) as connection:
        connection.sendall(_PREFACE)
        answer = connection.recv(_FRAME)
    if answer[3:4] != _SETTINGS:
        raise ConnectionError("what answers there is no head of a Ray cluster")


def _room(ray: Any, cluster: Cluster) -> int:
    """Return how many workers the cluster has room for now, at least one."""
    resources = ray.cluster_resources()
    rooms = [resources.get("CPU", 0) / cluster.cpus_per_trial]
    if cluster.gpus_per_trial:
        rooms.append(resources.get("GPU", 0) / cluster.gpus_per_trial)
    return max(1, int(min(rooms) + 1e-9))
