"""Executors: what they are given, what they promise, and the one that needs no workers."""

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


class Runnable(Protocol):
    """A computation described by data: a frozen dataclass of plain values.

    Its result depends on these values alone, so it may run anywhere, and again if its worker is
    lost. It seeds its own random numbers. An attribute `timeout` (seconds, or None for no limit)
    overrides the time limit of the executor.
    """

    def run(self) -> Any:
        """Compute and return the result, which must be picklable."""


J = TypeVar("J", bound=Runnable)


class Executor(Protocol):
    """Runs jobs, each on one thread and with the caller's random generators left alone."""

    def run(self, jobs: Iterator[J | None]) -> Iterator[tuple[J, Outcome]]:
        """Run `jobs` and yield each with its outcome, in the order in which they end.

        The next job is taken only when a worker is free, so `jobs` may be a generator that decides
        from the outcomes seen so far. None among the jobs means "none yet": the executor asks again
        after the next job has ended. Raises `RuntimeError` for None while no job is running, which
        would wait for ever. An exception of a job that is no outcome (see `classify`) is a bug: it
        ends the run and is raised here.
        """

    def share(self, name: str, make: Callable[[], Any]) -> None:
        """Give every worker the constant that `make` returns, as `robustkit.jobs.shared(name)`.

        Workers on this machine map files instead, whose memory they share: only executors of
        several machines do anything here, or call `make` at all.
        """

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...


TRIES = 3
"""How often a job whose worker dies is started."""

NOTHING_RUNS = "None among the jobs while no job is running: this would wait for ever"


def attempt(job: Runnable) -> Outcome:
    """Run `job` in this process on one thread and return its outcome. Bugs are raised."""
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
    """The Ray cluster that workers run on, and the share of it that each takes.

    `address` is "auto" or HOST:PORT of a running cluster, or None to start one on this machine.
    Fractions of a GPU place several trials on one. After `recycle` jobs a worker is replaced, so
    that leaks do not grow. Raises `ConfigError`.

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
    """Raise `ConfigError` where an executor of one machine is given settings of a cluster."""
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
    """Return the executor called `name`, to be used as a context manager.

    `workers` jobs run at a time (with "ray", 0: as many as the cluster has room for); a job is
    stopped after `timeout` seconds and may allocate `memory_gib` GiB of main memory. `cluster`
    describes the cluster of "ray". Raises `ConfigError` for an unknown name, for values out of
    range, and for limits that the executor cannot keep.
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
    """Runs each job in this process: nothing to start, and a debugger sees everything.

    A job that hangs or kills its process is not survived, and time limits of single jobs are not
    kept. Raises `ConfigError` for several workers, a time limit or a memory limit.
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
        """See `Executor.share`: jobs map files."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Do nothing: there is nothing to close."""
