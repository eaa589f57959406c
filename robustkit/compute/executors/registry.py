"""The executors by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from robustkit.compute.executors.base import Executor
from robustkit.errors import ConfigError, did_you_mean

EXECUTORS: dict[str, Callable[..., Executor]] = {}

E = TypeVar("E", bound=Callable[..., Executor])


def register(name: str) -> Callable[[E], E]:
    """Put an executor into `EXECUTORS` under `name`. Raises `ValueError` if the name is taken."""

    def add(executor: E) -> E:
        if name in EXECUTORS:
            raise ValueError(f"there is an executor called '{name}' already")
        EXECUTORS[name] = executor
        return executor

    return add


def open_executor(
    name: str,
    *,
    workers: int = 1,
    timeout: float | None = None,
    memory_gib: float | None = None,
) -> Executor:
    """The executor called `name`, to be used as a context manager.

    `workers` jobs run at a time; a job is stopped after `timeout` seconds and may allocate
    `memory_gib` GiB of main memory. Raises `ConfigError` for an unknown name, for values that make
    no sense, and for limits the executor cannot keep.
    """
    if name not in EXECUTORS:
        raise ConfigError(f"unknown executor '{name}'{did_you_mean(name, EXECUTORS)}")
    if workers < 1:
        raise ConfigError(f"workers is {workers}; it must be at least 1")
    for option, value in (("timeout", timeout), ("memory_gib", memory_gib)):
        if value is not None and not value > 0:
            raise ConfigError(f"{option} is {value}; it must be above 0, or left out for no limit")
    return EXECUTORS[name](workers=workers, timeout=timeout, memory_gib=memory_gib)
