"""What can be chosen by name: attacks, losses, networks, executors, strategies, experiments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from robustkit.errors import RobustkitError, did_you_mean

T = TypeVar("T")


class Registry(dict[str, T]):
    """A dict from names to things of one `kind`, each entered where it is defined.

    `find` is for names that the user gave: an unknown one raises `error`, in one line with the
    nearest name and the whole list. `registry[name]` is for names known to be there.
    """

    def __init__(
        self, kind: str, error: type[RobustkitError], entries: Mapping[str, T] | None = None
    ) -> None:
        super().__init__(entries or {})
        self._kind, self._error = kind, error

    def enter(self, name: str, thing: T) -> None:
        """Put `thing` under `name`; a name that is taken is a bug and raises `ValueError`."""
        if name in self:
            raise ValueError(f"{self._kind} '{name}' is registered twice")
        self[name] = thing

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that enters what it decorates, unchanged."""

        def entering(thing: T) -> T:
            self.enter(name, thing)
            return thing

        return entering

    def find(self, name: str) -> T:
        """Return the entry called `name`; raises this registry's error if there is none."""
        if name not in self:
            raise self._error(f"unknown {self._kind} '{name}'{did_you_mean(name, self)}")
        return self[name]
