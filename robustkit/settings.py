"""Settings as frozen dataclasses: how a field gets its help text, and what is checked alike."""

from __future__ import annotations

from dataclasses import field
from typing import TypeVar

from robustkit.errors import ConfigError, did_you_mean

T = TypeVar("T")


def setting(default: T, help: str) -> T:  # noqa: A002
    """Return a dataclass field with its default and its help text on the command line."""
    return field(default=default, metadata={"help": help})


def check_choice(name: str, value: str, options: tuple[str, ...]) -> None:
    """Raise `ConfigError`, with the nearest option, unless `value` is one of them."""
    if value not in options:
        raise ConfigError(f"unknown {name} '{value}'{did_you_mean(str(value), options)}")


def check_at_least(name: str, value: float, least: float) -> None:
    """Raise `ConfigError` for a value below `least`, or none at all (NaN)."""
    if not value >= least:
        raise ConfigError(f"{name} must be at least {least:g}, not {value:g}")
