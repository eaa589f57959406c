"""The executors by name."""

from __future__ import annotations

from collections.abc import Callable

from robustkit.compute.executors.base import Executor
from robustkit.compute.executors.cluster import Cluster
from robustkit.errors import ConfigError
from robustkit.registry import Registry

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
