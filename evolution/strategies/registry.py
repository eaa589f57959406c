"""The search strategies by name."""

from __future__ import annotations

from evolution.strategies.base import SearchSettings, Strategy
from robustkit.errors import ConfigError
from robustkit.registry import Registry

STRATEGIES: Registry[type[Strategy]] = Registry("strategy", ConfigError)


def open_strategy(name: str, settings: SearchSettings) -> Strategy:
    """A fresh strategy; raises `ConfigError` for an unknown name."""
    return STRATEGIES.find(name)(settings)
