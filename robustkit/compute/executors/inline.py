"""Jobs one after the other, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Self

from robustkit.compute.executors.base import NOTHING_RUNS, J, attempt
from robustkit.compute.executors.cluster import Cluster, refuse_cluster
from robustkit.compute.executors.registry import EXECUTORS
from robustkit.compute.outcomes import Outcome
from robustkit.errors import ConfigError


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
