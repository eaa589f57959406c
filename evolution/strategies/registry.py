"""The search strategies by name."""

from __future__ import annotations

from collections.abc import Callable

from evolution.strategies.base import SearchSettings, Strategy
from robustkit.errors import ConfigError, did_you_mean

STRATEGIES: dict[str, type[Strategy]] = {}


def strategy(name: str) -> Callable[[type[Strategy]], type[Strategy]]:
    """Register a strategy under `name`; a name taken already raises `ValueError`."""

    def register(cls: type[Strategy]) -> type[Strategy]:
        if name in STRATEGIES:
            raise ValueError(f"strategy '{name}' is registered twice")
        STRATEGIES[name] = cls
        return cls

    return register


def open_strategy(name: str, settings: SearchSettings) -> Strategy:
    """A fresh strategy; raises `ConfigError` for an unknown name."""
    if name not in STRATEGIES:
        raise ConfigError(f"search: unknown strategy '{name}'{did_you_mean(name, STRATEGIES)}")
    return STRATEGIES[name](settings)
