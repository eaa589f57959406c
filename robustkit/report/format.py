"""Figures with their intervals, and what several verbs say alike, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NOTHING = "–"


def number(found: Mapping[str, Any]) -> str:
    """{mean, low, high} as `0.12 [0.10, 0.14]`; a dash without a mean."""
    if found["mean"] is None:
        return NOTHING
    text = f"{found['mean']:.2f}"
    return text if found["low"] is None else f"{text} [{found['low']:.2f}, {found['high']:.2f}]"


def percent(found: Mapping[str, Any], *, sign: bool = False, unit: str = "") -> str:
    """{mean, low, high}, fractions, as `12.3 [10.0, 14.6]`; with `sign` a plus where it is due."""
    if found["mean"] is None:
        return NOTHING
    form = "+.1f" if sign else ".1f"
    text = f"{100 * found['mean']:{form}}{unit}"
    if found["low"] is None:
        return text
    return f"{text} [{100 * found['low']:{form}}, {100 * found['high']:{form}}]"
