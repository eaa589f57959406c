"""What a run folder tells its reader, checked once where it is read: summary, settings, command.

A verb describes its summary as a `TypedDict` and draws nothing but what has passed here, so that a
folder that was edited is told in one line instead of a traceback.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, NotRequired, TypedDict, TypeVar

from msgspec import Meta

from experiments.pages import finished
from robustkit.errors import ConfigError, RunError
from robustkit.reading import check_kind, is_printable, printable
from robustkit.runs import RunFolder

Kind = TypeVar("Kind")

_ONE = 1 + 1e-6  # means of float32 may lie a hair above 1
Rate = Annotated[float, Meta(ge=0, le=_ONE)]
Difference = Annotated[float, Meta(ge=-_ONE, le=_ONE)]
"""Of two rates, or a correlation."""
Value = Annotated[float, Meta(ge=-1e15, le=1e15)]
"""A quantity that drawings can take: with more, sums and axes overflow."""
Amount = Annotated[float, Meta(ge=0, le=1e15)]
Positive = Annotated[float, Meta(gt=0, le=1e15)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Digits = Annotated[str, Meta(pattern=r"^[0-9]{1,9}\Z")]
"""A whole number as the key of a table."""


class Interval(TypedDict):
    """A mean with its interval; no ends for one value, nothing without any."""

    mean: Value | None
    low: Value | None
    high: Value | None
    n: NotRequired[Count]


class Measured(TypedDict):
    """The same of one value or more."""

    mean: Value
    low: Value | None
    high: Value | None
    n: NotRequired[Count]


class Share(TypedDict):
    """A rate with its interval; None of no images."""

    rate: Rate | None
    low: Rate | None
    high: Rate | None
    n: Count


def read_summary(folder: RunFolder, kind: type[Kind]) -> Kind:
    """Return the summary of a finished run as `kind`.

    Raises `RunError` for a run that has not finished, and as `check_summary`.
    """
    return check_summary(finished(folder), kind, str(folder.file("summary.json")))


def check_summary(value: Any, kind: type[Kind], where: str) -> Kind:
    """Return plain `value` as `kind`, of whose intervals no end is missing or beyond the other.

    Raises `RunError`, which begins with `where` and names the entry.
    """
    found = check_kind(value, kind, where, error=RunError)
    for place, each in _inside(found):
        if isinstance(each, Mapping) and "low" in each and "high" in each:
            _check_interval(each, f"{where}: {place}")
    return found


def check_lines(value: Any, where: str) -> None:
    """Check that every name and text in a plain value is one line that a terminal only shows.

    For what is printed as it is. Raises `RunError`, which begins with `where` and names the entry.
    """
    for place, each in _inside(value):
        names = each.keys() if isinstance(each, Mapping) else [each]
        for text in names:
            if isinstance(text, str) and not is_printable(text):
                raise RunError(f"{where}: {place}: not one line of text: {shown(text)}")


def saved_options(folder: RunFolder, kind: type[Kind]) -> Kind:
    """Return the settings of a run as the dataclass or `TypedDict` `kind`.

    Raises `RunError`, which names the folder's `config.yaml`, for settings that are none.
    """
    where = str(folder.file("config.yaml"))
    try:
        return check_kind(folder.config, kind, where, error=RunError)
    except ConfigError as error:
        raise RunError(f"{where}: {error}") from error


def command_of(folder: RunFolder) -> list[str]:
    """Return the command that made the run; raises `RunError`, naming the file, without one."""
    told = check_kind(folder.env, _Environment, str(folder.file("env.json")), error=RunError)
    return told["command"]


def check_rates(found: Share, where: str) -> None:
    """Raise `RunError` where a rate has no interval, or lies outside it."""
    rate, low, high = found["rate"], found["low"], found["high"]
    if rate is not None and (low is None or high is None or not low <= rate <= high):
        raise RunError(f"{where}: the rate {rate} is not within {low} and {high}")


def check_alike(one: Any, other: Any, where: str, what: str) -> None:
    """Raise `RunError` where two lists that belong together are not of one length."""
    if len(one) != len(other):
        raise RunError(f"{where}: {len(one)} and {len(other)} {what}, which belong together")


def check_has(found: Mapping[str, Any], names: Any, where: str) -> None:
    """Raise `RunError` where a table lacks the entry of one of `names`."""
    for name in names:
        if name not in found:
            raise RunError(f"{where}: '{printable(name)}' is missing")


def shown(text: object) -> str:
    """Return a text of anyone's for a message: in quotes, printable, its end cut off."""
    told = printable(repr(text))
    return told if len(told) <= 60 else f"{told[:60]}…"


class _Environment(TypedDict):
    command: list[str]


def _check_interval(found: Mapping[str, Any], where: str) -> None:
    low, high = found["low"], found["high"]
    if (low is None) != (high is None) or (low is not None and not low <= high):
        raise RunError(f"{where}: no interval: low is {low}, high is {high}")
    if low is not None and found.get("mean", low) is None:
        raise RunError(f"{where}: an interval without a mean")


def _inside(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """A plain value and all values in it, each with its place: `nets.R.clean_acc`."""
    yield place or "top", value
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from _inside(each, f"{place}.{printable(name)}" if place else printable(name))
    elif isinstance(value, list | tuple):
        for number, each in enumerate(value):
            yield from _inside(each, f"{place}[{number}]")
