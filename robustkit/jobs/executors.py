"""What a job and an executor are, and how one job is carried out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

from robustkit.compute.devices import single_thread
from robustkit.compute.seeds import isolated_rng
from robustkit.errors import ConfigError
from robustkit.jobs.outcomes import Ok, Outcome, classify
from robustkit.registry import Registry


class Job(Protocol):
    """A piece of work described by data: a frozen dataclass of plain values.

    Its result depends on the job alone, so it may run anywhere, and again if its worker is lost.
    It seeds its own random numbers. A job with an attribute `timeout` (seconds, or None for no
    limit) overrides the time limit of its executor.
    """

    def run(self) -> Any:
        """Do the work. The result must be picklable."""


J = TypeVar("J", bound=Job)


class Executor(Protocol):
    """Runs jobs, each on one thread and with the caller's random generators left alone."""

    def run(self, jobs: Iterator[J | None]) -> Iterator[tuple[J, Outcome]]:
        """Run `jobs` and yield each with its outcome, in the order in which they end.

        The next job is asked for only when a worker is free, so `jobs` may be a generator that
        decides from the outcomes seen so far. A None among the jobs says "nothing just now": the
        executor asks again after the next job has ended. Raises `RuntimeError` for a None while no
        job is running, which would wait for ever. An exception of a job that is no outcome (see
        `classify`) is a bug: it ends the run and is raised here.
        """

    def share(self, name: str, make: Callable[[], Any]) -> None:
        """Give every worker what `make` makes, which never changes, as `held(name)`.

        Workers on this machine read files instead, whose memory they share: only executors past
        one machine do anything here, or call `make` at all.
        """

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...


TRIES = 3
"""How often a job is tried whose worker dies."""

NOTHING_RUNS = "the jobs said 'nothing just now' while no job is running: this would wait for ever"


def attempt(job: Job) -> Outcome:
    """Run `job` here, on one thread, and say how it ended. Bugs are raised."""
    start = time.perf_counter()
    try:
        with isolated_rng(), single_thread():
            value = job.run()
    except Exception as error:
        outcome = classify(error, time.perf_counter() - start)
        if outcome is None:
            raise
        return outcome
    return Ok(value, time.perf_counter() - start)


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A Ray cluster: "auto" or HOST:PORT of one that runs, or None for one of this machine alone.

    Each worker takes so many CPUs and GPUs of it; fractions of a GPU pack several trials on one.
    After `recycle` jobs a worker is replaced by a fresh one, so that what leaks does not grow.
    Raises `ConfigError`.

    >>> Cluster(gpus_per_trial=1.5)
    Traceback (most recent call last):
    robustkit.errors.ConfigError: gpus_per_trial must be a fraction of one GPU or a whole number ...
    """

    address: str | None = None
    cpus_per_trial: float = 1.0
    gpus_per_trial: float = 0.0
    recycle: int = 1000

    def __post_init__(self) -> None:
        if not (math.isfinite(self.cpus_per_trial) and self.cpus_per_trial > 0):
            raise ConfigError(f"cpus_per_trial must be above 0, not {self.cpus_per_trial:g}")
        gpus = self.gpus_per_trial
        if not (math.isfinite(gpus) and gpus >= 0) or (gpus > 1 and gpus != int(gpus)):
            raise ConfigError(
                "gpus_per_trial must be a fraction of one GPU or a whole number of them, not "
                f"{gpus:g}"
            )
        if self.recycle < 1:
            raise ConfigError(f"recycle must be at least 1, not {self.recycle}")
        if self.address is not None and self.address != "auto" and not _is_address(self.address):
            raise ConfigError(f"ray_address must be auto or HOST:PORT, not '{self.address}'")


def refuse_cluster(executor: str, cluster: Cluster | None) -> None:
    """Raise `ConfigError` where an executor of one machine is asked for a cluster's."""
    if cluster is not None and cluster != Cluster():
        raise ConfigError(
            f"executor '{executor}' knows no ray_address, cpus_per_trial nor gpus_per_trial; "
            "use 'ray'"
        )


def _is_address(text: str) -> bool:
    host, colon, port = text.rpartition(":")
    return bool(host and colon) and port.isdecimal() and 0 < int(port) < 65536


EXECUTORS: Registry[Callable[..., Executor]] = Registry("executor", ConfigError)


def open_executor(
    name: str,
    *,
    workers: int = 1,
    timeout: float | None = None,
    memory_gib: float | None = None,
    cluster: Cluster | None = None,
) -> Executor:
    """The executor called `name`, to be used as a context manager.

    `workers` jobs run at a time (with "ray", 0: as many as the cluster has room for); a job is
    stopped after `timeout` seconds and may allocate `memory_gib` GiB of main memory. `cluster` says
    where Ray's workers come from. Raises `ConfigError` for an unknown name, for values that make no
    sense, and for limits the executor cannot keep.
    """
    executor = EXECUTORS.find(name)
    if workers < (0 if name == "ray" else 1):
        raise ConfigError(f"workers is {workers}; it must be at least 1")
    for option, value in (("timeout", timeout), ("memory_gib", memory_gib)):
        if value is not None and not value > 0:
            raise ConfigError(f"{option} is {value}; it must be above 0, or left out for no limit")
    return executor(workers=workers, timeout=timeout, memory_gib=memory_gib, cluster=cluster)


@EXECUTORS.register("inline")
class InlineExecutor:
    """Runs each job where it stands: nothing to start, and a debugger sees everything.

    It cannot stop a job that hangs, nor outlive one that kills its process; time limits that jobs
    bring along are not kept. Raises `ConfigError` when it is asked for more than that.
    """

    def __init__(
        self,
        *,
        workers: int = 1,
        timeout: float | None = None,
        memory_gib: float | None = None,
        cluster: Cluster | None = None,
    ) -> None:
        refuse_cluster("inline", cluster)
        if workers != 1:
            raise ConfigError(
                f"executor 'inline' runs one job at a time, not {workers}; use 'processes'"
            )
        for option, value in (("timeout", timeout), ("memory_gib", memory_gib)):
            if value is not None:
                raise ConfigError(
                    f"executor 'inline' cannot keep {option} = {value:g}; use 'processes'"
                )

    def run(self, jobs: Iterator[J | None]) -> Iterator[tuple[J, Outcome]]:
        """See `Executor.run`."""
        for job in jobs:
            if job is None:
                raise RuntimeError(NOTHING_RUNS)
            yield job, attempt(job)

    def share(self, name: str, make: Callable[[], Any]) -> None:
        """See `Executor.share`: files will do."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """There is nothing to close."""
