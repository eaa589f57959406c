"""Numbers of summaries and ledgers as types with their bounds, and intervals that fit together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, TypedDict, TypeVar

from msgspec import Meta

from robustkit.errors import RobustkitError, RunError
from robustkit.reading import check_kind, printable
from robustkit.runs import RunFolder

Kind = TypeVar("Kind")

Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Positive = Annotated[int, Meta(ge=1, le=2**53)]
Seconds = Annotated[float, Meta(ge=0, le=1e12)]
Cosine = Annotated[float, Meta(ge=-1.001, le=1.001)]  # sums of floats end a hair beyond 1
Real = Annotated[float, Meta(ge=-1e100, le=1e100)]  # what a drawing can reckon with
Size = Annotated[float, Meta(ge=0)]


class RateDict(TypedDict):
    """What `robustkit.attacks.Rate.to_dict` gives; all but `n` None where there is no image."""

    rate: Share | None
    n: Count
    low: Share | None
    high: Share | None


class GapDict(TypedDict):
    """What `robustkit.attacks.Gap.to_dict` gives, in percentage points."""

    points: Annotated[float, Meta(ge=-100, le=100)] | None
    low: Annotated[float, Meta(ge=-100, le=100)] | None
    high: Annotated[float, Meta(ge=-100, le=100)] | None
    p_value: Share | None
    n: Count


class Published(TypedDict):
    """The accuracy that was published with a model's weights, and on what."""

    accuracy: Share
    on: str


def settings_of(folder: RunFolder, kind: type[Kind]) -> Kind:
    """The settings of a run as `kind`; raises `RunError`, naming config.yaml, for what is none."""
    where = str(folder.file("config.yaml"))
    try:
        return check_kind(folder.config, kind, where, error=RunError)
    except RunError:
        raise
    except RobustkitError as error:  # of a config's own checks, which know of no file
        raise RunError(f"{where}: {error}") from None


def check_intervals(value: Any, where: str) -> None:
    """Check all intervals in a summary: `low` is not above `high`, and an estimate has both.

    A `rate` lies between them, and is there where `n` is more than 0. Raises `RunError`, which
    begins with `where` and names the entry.
    """
    for place, each in _intervals(value, ""):
        low, high = each["low"], each["high"]
        estimate = each.get("rate", each.get("points"))
        told = [low is None, high is None, estimate is None, each["n"] == 0]
        if "p_value" in each:
            told.append(each["p_value"] is None)
        if any(told) and not all(told):
            raise RunError(f"{where}: {place}: some of its values are null, and others are not")
        if low is None:
            continue
        if low > high:
            raise RunError(f"{where}: {place}: low, {low:g}, is above high, {high:g}")
        if "rate" in each and not low <= estimate <= high:
            raise RunError(f"{where}: {place}: rate, {estimate:g}, is not within low and high")


def _intervals(value: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(value, dict):
        if {"low", "high", "n"} <= value.keys() and value.keys() & {"rate", "points"}:
            yield place.removeprefix("."), value
        for key, inner in value.items():
            yield from _intervals(inner, f"{place}.{printable(key)}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _intervals(inner, f"{place}[{number}]")
