"""What the jobs of one process share: read-only values by name, and what they have loaded.

An executor whose workers are on other machines sends a large value once to each machine, and every
worker there maps the same memory. Where nothing is shared, jobs read files instead.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, ParamSpec, Protocol, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T", covariant=True)

_SHARED: dict[str, object] = {}


class Cached(Protocol[P, T]):
    """A function that remembers its latest results."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Return the result of these arguments, remembered or computed."""

    def cache_clear(self) -> None:
        """Forget all results."""


def share(name: str, value: Any) -> None:
    """Keep `value` for the jobs of this process as `shared(name)`, replacing an earlier one."""
    _SHARED[name] = value


def shared(name: str) -> Any:
    """Return the value shared under `name`, or None."""
    return _SHARED.get(name)


def cached_per_process(size: int = 1) -> Callable[[Callable[P, T]], Cached[P, T]]:
    """Decorate a loader so that the jobs of one process load once: its `size` latest results stay.

    For whatever many jobs of a run open from the same few strings and numbers: the workspace of a
    run folder, a rendered data set, the settings of a run with the models that they name. Results
    must not be changed by a job. Arguments must be hashable.

    >>> @cached_per_process()
    ... def load(path: str) -> list[str]:
    ...     return [path]
    >>> load("a") is load("a")
    True
    """

    def decorate(load: Callable[P, T]) -> Cached[P, T]:
        return cast("Cached[P, T]", lru_cache(maxsize=size)(load))

    return decorate
