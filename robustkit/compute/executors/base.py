"""What a job and an executor are, and how one job is carried out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol, Self, TypeVar

from robustkit.compute.outcomes import Ok, Outcome, classify
from robustkit.compute.seeds import isolated_rng
from robustkit.compute.threads import single_thread


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
