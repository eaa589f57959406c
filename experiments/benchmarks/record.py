"""What was compared: two values, the ratio that follows from them, and what is claimed of it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict, TypeVar

from msgspec import Meta

from robustkit.errors import RunError
from robustkit.reading import Json, check_kind
from robustkit.runs.summaries import Real

# With fewer values quartiles say nothing that the ends do not.
FEWEST_FOR_QUARTILES = 4
_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
_BYTES = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


class ValueFile(TypedDict):
    """A value as it lies in a file; what else is there is for readers other than us."""

    name: str
    unit: str
    values: Annotated[list[Real], Meta(min_length=1)]


@dataclass(frozen=True)
class Value:
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
        """Return the middle of the values."""
        return statistics.median(self.values)

    @property
    def spread(self) -> tuple[float, float] | None:
        """Return lower and upper quartile, with fewer than four values the ends, of one
        value None.
        """
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

    def to_dict(self) -> Json:
        """Return plain values; `median`, `low` and `high` are for other readers."""
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
    def from_dict(cls, found: Any) -> Value:
        """Return the inverse of `to_dict`; raises `RunError` for anything else."""
        told = check_kind(found, ValueFile, "a figure", error=RunError)
        return cls(told["name"], told["unit"], tuple(map(float, told["values"])))


def per_second(name: str, unit: str, count: int, seconds: Sequence[float]) -> Value:
    """Return a rate: `count` of something in each of these times."""
    return Value(name, f"{unit}/s", tuple(count / each for each in seconds))


def amount(value: float, unit: str) -> str:
    """Return a value with its unit, in the multiple of it that reads best."""
    scale, shown = _scale(unit, value)
    return f"{_short(value / scale)} {shown}".rstrip()


def _scale(unit: str, value: float) -> tuple[float, str]:
    """Return the divisor and the unit that is left."""
    multiples = {"s": _SECONDS, "bytes": _BYTES}.get(unit, ())
    for scale, name in multiples:
        if abs(value) >= scale:
            return scale, name
    return _SECONDS[-1] if unit == "s" and value else (1.0, unit)


def _short(value: float) -> str:
    """Return three digits, or more where they are whole."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


_T = TypeVar("_T")

OURS_BY_PEER, PEER_BY_OURS = "ours/peer", "peer/ours"


class RecordFile(TypedDict):
    """A record as it lies in a file; what else is there is for readers other than us."""

    what: str
    ours: ValueFile | None
    peer: ValueFile | None
    ratio_of: str
    higher_is_better: bool
    bound: Annotated[int, Meta(ge=-(2**53), le=2**53)] | Real | None
    note: str
    differs: str
    skipped: str


@dataclass(frozen=True, kw_only=True)
class Record:
    """`ours` beside `peer`, or alone; there is no ratio but the one of their medians.

    The peer is another library, or the usual way of doing the same thing. `ratio_of` says which
    value is divided by which, `higher` whether more of it is better. `bound` is what we claim:
    the ratio, or the value where it is alone, is at most that, with `higher` at least.

    Where the two did not come to the same result `differs` says how, and there is no ratio: it
    would compare different things. Where nothing could be measured `skipped` says why, and there
    are no values. `note` is for whoever reads the table. Raises `ValueError` for records that
    say neither one thing nor the other.
    """

    what: str
    ours: Value | None = None
    peer: Value | None = None
    ratio_of: str = OURS_BY_PEER
    higher: bool = False
    bound: float | None = None
    note: str = ""
    differs: str = ""
    skipped: str = ""

    def __post_init__(self) -> None:
        if self.ratio_of not in (OURS_BY_PEER, PEER_BY_OURS):
            raise ValueError(f"{self.what}: no ratio '{self.ratio_of}'")
        if (self.ours is None) != bool(self.skipped) or (self.peer and not self.ours):
            raise ValueError(f"{self.what}: either our figure, or a reason why there is none")
        if self.ours and self.peer:
            if self.ours.unit != self.peer.unit:
                raise ValueError(f"{self.what}: {self.ours.unit} beside {self.peer.unit}")
            _, below = self._pair(self.ours, self.peer)
            if not below.median > 0:
                raise ValueError(f"{self.what}: nothing to divide by in '{below.name}'")

    @property
    def ratio(self) -> float | None:
        """Return the ratio of the medians; None without a peer, and where the results differ."""
        if self.ours is None or self.peer is None or self.differs:
            return None
        above, below = self._pair(self.ours, self.peer)
        return above.median / below.median

    @property
    def value(self) -> float | None:
        """Return what is claimed and compared: the ratio, or our value where it is alone."""
        if self.ours is not None and self.peer is None:
            return self.ours.median
        return self.ratio

    @property
    def span(self) -> tuple[float, float] | None:
        """Return the range of `value` while both sides stay in their spreads.

        None where one is unknown.

        It is wider than the spread of a ratio taken round by round: it errs on the quiet side.
        """
        if self.value is None or self.ours is None or self.ours.spread is None:
            return None
        if self.peer is None:
            return self.ours.spread
        if self.peer.spread is None:
            return None
        above, below = self._pair(self.ours.spread, self.peer.spread)
        if not below[0] > 0:
            return None
        return above[0] / below[1], above[1] / below[0]

    @property
    def kept(self) -> bool | None:
        """Return whether the claim holds in this measurement.

        None where nothing is claimed or measured.

        A claim of a ratio whose two sides came to different results is not kept.
        """
        if self.bound is None or self.skipped:
            return None
        if self.value is None:
            return False
        return self.value >= self.bound if self.higher else self.value <= self.bound

    def shown(self, value: float) -> str:
        """Return a value of this record as text."""
        if self.peer is None and self.ours is not None:
            return amount(value, self.ours.unit)
        if value >= 100:
            return f"{value:,.0f}×"
        return f"{value:.2f}×" if value >= 1 else f"{value:.3g}×"

    def _pair(self, ours: _T, peer: _T) -> tuple[_T, _T]:
        return (ours, peer) if self.ratio_of == OURS_BY_PEER else (peer, ours)

    def to_dict(self) -> Json:
        """Return plain values; `ratio` and `kept` are for other readers."""
        return {
            "what": self.what,
            "ours": self.ours and self.ours.to_dict(),
            "peer": self.peer and self.peer.to_dict(),
            "ratio_of": self.ratio_of,
            "ratio": self.ratio,
            "higher_is_better": self.higher,
            "bound": self.bound,
            "kept": self.kept,
            "note": self.note,
            "differs": self.differs,
            "skipped": self.skipped,
        }

    @classmethod
    def from_dict(cls, found: Any, where: str = "a record") -> Record:
        """Return the inverse of `to_dict`; raises `RunError`, which begins with `where`."""
        told = check_kind(found, RecordFile, where, error=RunError)
        values = {
            name: None if each is None else Value.from_dict(each)
            for name, each in (("ours", told["ours"]), ("peer", told["peer"]))
        }
        try:
            return cls(
                what=told["what"],
                ours=values["ours"],
                peer=values["peer"],
                ratio_of=told["ratio_of"],
                higher=told["higher_is_better"],
                bound=told["bound"],
                note=told["note"],
                differs=told["differs"],
                skipped=told["skipped"],
            )
        except ValueError as error:
            raise RunError(f"{where}: {error}") from None


def cost(
    what: str, ours: Value, peer: Value, *, at_most: float | None = None, note: str = ""
) -> Record:
    """Return our value in units of the peer's: less is better."""
    return Record(what=what, ours=ours, peer=peer, bound=at_most, note=note)


def speedup(
    what: str,
    ours: Value,
    peer: Value,
    *,
    at_least: float | None = None,
    note: str = "",
    differs: str = "",
) -> Record:
    """Return the peer's value in units of ours: more is better."""
    return Record(
        what=what,
        ours=ours,
        peer=peer,
        ratio_of=PEER_BY_OURS,
        higher=True,
        bound=at_least,
        note=note,
        differs=differs,
    )


def alone(what: str, ours: Value, *, at_most: float | None = None, note: str = "") -> Record:
    """Return our value with nothing beside it: no ratio; less is better."""
    return Record(what=what, ours=ours, bound=at_most, note=note)


def skipped(what: str, why: str) -> Record:
    """Return a record of what could not be measured here."""
    return Record(what=what, skipped=why)
