"""A measured quantity: what it is called, and what it was in each round."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

from msgspec import Meta

from experiments.summaries import Real
from robustkit.errors import RunError
from robustkit.reading import check_kind

# With fewer values quartiles say nothing that the ends do not.
FEWEST_FOR_QUARTILES = 4
_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
_BYTES = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


class FigureFile(TypedDict):
    """A figure as it lies in a file; what else is there is for readers other than us."""

    name: str
    unit: str
    values: Annotated[list[Real], Meta(min_length=1)]


@dataclass(frozen=True)
class Figure:
    """`values` of the quantity `name` in `unit`, one of each round.

    Units are "s", "bytes" or whatever is counted ("images/s"). Raises `ValueError` without values
    and for values that are no finite numbers.
    """

    name: str
    unit: str
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.values or not all(map(math.isfinite, self.values)):
            raise ValueError(f"{self.name}: no finite values: {self.values}")

    @property
    def median(self) -> float:
        """The middle of the values."""
        return statistics.median(self.values)

    @property
    def spread(self) -> tuple[float, float] | None:
        """Lower and upper quartile, with fewer than four values the ends, of one value None."""
        if len(self.values) == 1:
            return None
        if len(self.values) < FEWEST_FOR_QUARTILES:
            return min(self.values), max(self.values)
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return low, high

    def __str__(self) -> str:
        scale, unit = _scale(self.unit, self.median)
        middle = f"{_short(self.median / scale)} {unit}".rstrip()
        if self.spread is None:
            return f"{self.name} {middle} (n 1)"
        low, high = (_short(end / scale) for end in self.spread)
        return f"{self.name} {middle} ({low}–{high}, n {len(self.values)})"

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `median`, `low` and `high` are there for readers other than us."""
        low, high = self.spread or (None, None)
        quartiles = len(self.values) >= FEWEST_FOR_QUARTILES
        return {
            "name": self.name,
            "unit": self.unit,
            "median": self.median,
            "low": low,
            "high": high,
            "spread": None if low is None else "quartiles" if quartiles else "least and greatest",
            "rounds": len(self.values),
            "values": list(self.values),
        }

    @classmethod
    def from_dict(cls, found: Any) -> Figure:
        """What `to_dict` made; raises `RunError` for anything else."""
        told = check_kind(found, FigureFile, "a figure", error=RunError)
        return cls(told["name"], told["unit"], tuple(map(float, told["values"])))


def per_second(name: str, unit: str, count: int, seconds: Sequence[float]) -> Figure:
    """A rate: `count` of something in each of these times."""
    return Figure(name, f"{unit}/s", tuple(count / each for each in seconds))


def amount(value: float, unit: str) -> str:
    """A value with its unit, in the multiple of it that reads best."""
    scale, shown = _scale(unit, value)
    return f"{_short(value / scale)} {shown}".rstrip()


def _scale(unit: str, value: float) -> tuple[float, str]:
    """What to divide by, and the unit that is left."""
    multiples = {"s": _SECONDS, "bytes": _BYTES}.get(unit, ())
    for scale, name in multiples:
        if abs(value) >= scale:
            return scale, name
    return _SECONDS[-1] if unit == "s" and value else (1.0, unit)


def _short(value: float) -> str:
    """Three digits, more only where they are whole."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
