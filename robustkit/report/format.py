"""Estimates as text: values with their intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from robustkit.stats import Estimate, Mean

NOTHING = "–"


def number(estimate: Estimate | Mapping[str, Any]) -> str:
    """Return an estimate as `0.12 [0.10, 0.14]`; a dash without a value."""
    return _text(estimate, 1, ".2f", "")


def percent(estimate: Estimate | Mapping[str, Any], *, sign: bool = False, unit: str = "") -> str:
    """Return an estimate of a fraction as `12.3 [10.0, 14.6]`; with `sign` a plus where due."""
    return _text(estimate, 100, "+.1f" if sign else ".1f", unit)


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown; cells are taken as they are.

    >>> print(markdown_table(["net", "n"], [["R", "3"]]))
    | net | n |
    |---|---|
    | R | 3 |
    """
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def _text(estimate: Estimate | Mapping[str, Any], times: float, form: str, unit: str) -> str:
    if isinstance(estimate, Mapping):
        estimate = Mean(value=estimate["mean"], low=estimate["low"], high=estimate["high"])
    if estimate.value is None:
        return NOTHING
    text = f"{times * estimate.value:{form}}{unit}"
    if estimate.low is None or estimate.high is None:
        return text
    return f"{text} [{times * estimate.low:{form}}, {times * estimate.high:{form}}]"
