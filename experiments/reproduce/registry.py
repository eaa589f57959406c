"""The registry of published experiments: a dict from a name to how to run it and what it claims."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from experiments.reproduce.study import Study
from robustkit.errors import ConfigError
from robustkit.registry import Registry

Summary = Mapping[str, Any]
Compare = Callable[[Summary], "tuple[Row, ...]"]


@dataclass(frozen=True)
class Row:
    """One claim: `what` is measured, `published` with its source, and `ours` in words."""

    what: str
    published: str
    ours: str


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A published experiment as settings of a verb, at full size and as a `quick` rehearsal.

    `compare` reads the finished run's summary and sets its figures beside the published ones.
    """

    name: str
    title: str
    source: str
    verb: str
    settings: tuple[str, ...]
    quick: tuple[str, ...]
    compare: Compare

    def arguments(self, *, quick: bool) -> list[str]:
        """The verb's flags, for the rehearsal on embedded data or for the real thing."""
        return list(self.quick if quick else self.settings)


EXPERIMENTS: Registry[Experiment | Study] = Registry("experiment", ConfigError)


def experiment(
    *, name: str, title: str, source: str, verb: str, settings: str, quick: str
) -> Callable[[Compare], Compare]:
    """Register the decorated comparison as the experiment `name`; a second of a name is a bug."""

    def register(compare: Compare) -> Compare:
        entry = Experiment(
            name=name,
            title=title,
            source=source,
            verb=verb,
            settings=tuple(settings.split()),
            quick=tuple(quick.split()),
            compare=compare,
        )
        EXPERIMENTS.enter(name, entry)
        return compare

    return register
