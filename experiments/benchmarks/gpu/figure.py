"""A measured quantity, and figures as rows of a table."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """What was measured `values` times in `unit`; `ratio` is its median in that of `base`."""

    name: str
    unit: str
    values: tuple[float, ...]
    base: str | None = None
    ratio: float | None = None

    @property
    def median(self) -> float:
        """The middle of the values."""
        return statistics.median(self.values)

    def to_dict(self) -> dict[str, Any]:
        """Median, least and greatest value, how many there are, and the ratio."""
        return {
            "unit": self.unit,
            "median": self.median,
            "low": min(self.values),
            "high": max(self.values),
            "n": len(self.values),
            "ratio": self.ratio,
            "ratio_to": self.base,
        }

    def over(self, other: Figure) -> Figure:
        """This figure with its ratio to `other`."""
        return Figure(self.name, self.unit, self.values, other.name, self.median / other.median)


def per_second(name: str, unit: str, count: int, seconds: Sequence[float]) -> Figure:
    """A rate: `count` of something in each of these times."""
    return Figure(name, f"{unit}/s", tuple(count / each for each in seconds))


def table(figures: Iterable[Figure]) -> str:
    """One line a figure."""
    lines = [f"{'':58} {'median':>10} {'low':>10} {'high':>10}   n  ratio"]
    for each in figures:
        numbers = " ".join(f"{value:10.4g}" for value in (each.median, *_ends(each)))
        ratio = "" if each.ratio is None else f"  {each.ratio:.2f}× {each.base}"
        lines.append(f"{f'{each.name} ({each.unit})':58} {numbers} {len(each.values):3}{ratio}")
    return "\n".join(lines)


def _ends(figure: Figure) -> tuple[float, float]:
    return min(figure.values), max(figure.values)
