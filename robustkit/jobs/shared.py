"""What this process holds for its jobs: large read-only values, by name.

An executor whose workers are on other machines ships such a value once to each machine, and every
worker there sees the same memory. Where nothing is held, jobs read from files instead.
"""

from __future__ import annotations

from typing import Any

_HELD: dict[str, Any] = {}


def hold(name: str, value: Any) -> None:
    """Keep `value` for the jobs of this process, in place of what had its name."""
    _HELD[name] = value


def held(name: str) -> Any:
    """What is held under `name`, or None."""
    return _HELD.get(name)
