"""Ranges of the parameters of attacks and components."""

from __future__ import annotations

from robustkit.errors import AttackError

# More would never end.
MOST = 1000  # samples, neighbours or copies
MOST_STEPS = 10_000  # of a search by decisions, and decisions of a step
MOST_GRADIENT_STEPS = 100_000


def check_count(name: str, count: int, most: int = MOST) -> None:
    """Raise `AttackError` unless a count is in [1, `most`]."""
    if not 1 <= count <= most:
        raise AttackError(f"{name} must be in [1, {most}], not {count}")


def check_share(name: str, share: float) -> None:
    """Raise `AttackError` unless a number is in [0,1]."""
    if not 0 <= share <= 1:
        raise AttackError(f"{name} must be in [0,1], not {share:g}")


def check_at_least_zero(name: str, value: float) -> None:
    """Raise `AttackError` unless a number is finite and not negative."""
    if not 0 <= value < float("inf"):
        raise AttackError(f"{name} must be at least 0, not {value:g}")
