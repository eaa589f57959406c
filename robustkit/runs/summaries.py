"""Typed summaries: the results that commands write, and how those of a run are read and checked.

Every command describes its summary as a `Result`; a report draws only values that were checked when
the run folder was read. The types here are shared by the summaries of several commands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Self, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from robustkit.errors import RobustkitError, RunError
from robustkit.geometry import LARGEST
from robustkit.reading import Json, check_kind, is_printable, printable
from robustkit.runs import RunFolder
from robustkit.runs.folder import FORMAT, finished

Kind = TypeVar("Kind")

MOST = 2**63 - 1
FLOAT32 = 3.4028235e38  # any logit, and any value that an axis can show
ROUNDING = 1.001  # of cosines and correlations, which rounding takes a hair beyond one

Share = Annotated[float, Meta(ge=0, le=1)]
Real = Annotated[float, Meta(ge=-FLOAT32, le=FLOAT32)]
Amount = Annotated[float, Meta(ge=0, le=FLOAT32)]
Cosine = Annotated[float, Meta(ge=-ROUNDING, le=ROUNDING)]
MeanShare = Annotated[float, Meta(ge=0, le=ROUNDING)]
Difference = Annotated[float, Meta(ge=-ROUNDING, le=ROUNDING)]  # of two shares
Points = Annotated[float, Meta(ge=-100, le=100)]  # a difference in percentage points
Positive = Annotated[float, Meta(gt=0, le=FLOAT32)]
Radius = Annotated[float, Meta(ge=0, le=1e6)]
Seconds = Annotated[float, Meta(ge=0, le=1e12)]
Count = Annotated[int, Meta(ge=0, le=MOST)]
Number = Annotated[int, Meta(ge=1, le=MOST)]
Epoch = Annotated[int, Meta(ge=0, le=10**9)]
Side = Annotated[int, Meta(ge=1, le=LARGEST)]
Size = Annotated[list[Side], Meta(min_length=2, max_length=2)]
Digits = Annotated[str, Meta(pattern=r"^[0-9]{1,9}\Z")]  # a whole number as the key of a table
Quartiles = Annotated[list[Amount], Meta(min_length=3, max_length=3)]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a command, or a part of it: typed in the program, plain values in JSON.

    Fields are named as the keys of `summary.json`. A key that older runs lack has a default; one
    that may be left out has the type `X | UnsetType` and the default `UNSET`.
    """

    def to_json(self) -> Json:
        """Return the plain values that a summary holds."""
        return dict(msgspec.to_builtins(self))

    @classmethod
    def from_json(cls, value: Any, where: str) -> Self:
        """Return plain `value` as this result, its intervals checked.

        Raises `RunError`, which begins with `where` and names the entry.
        """
        return check_summary(value, cls, where)


class Finding(Result, frozen=True):
    """A reason to doubt a value: its `name`, what was `seen`, and what that `means`."""

    name: str
    seen: str
    means: str

    @property
    def line(self) -> str:
        """The finding in one line."""
        return f"{self.name}: {self.seen}: {self.means}"


class Published(Result, frozen=True, kw_only=True):
    """The accuracies that were published with a model's weights, and the data they are for."""

    accuracy: Share
    on: str | UnsetType = UNSET
    robust_accuracy: Share | UnsetType = UNSET

    def __str__(self) -> str:
        place = "" if self.on is UNSET else f" on {self.on}"
        return f"{self.accuracy:.1%}{place}"


class SavedGeometry(Result, frozen=True):
    """See `robustkit.geometry.Geometry`; the filters are its `INTERPOLATIONS`."""

    size: Size
    resize: Side | Size | None  # no tuples: msgspec 0.23 crashes on them beside bounded numbers
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]


class ModelDescription(Result, frozen=True):
    """The description of a model in a report, beside its rates."""

    preprocessing: str
    input_size: Size | None
    notes: list[str]
    published: Published | None


class PixelSpace(Result, frozen=True, kw_only=True):
    """The pixel space in which models were compared; see `robustkit.cli.inputs`."""

    shape: Annotated[list[Number], Meta(min_length=3, max_length=3)]
    geometry: SavedGeometry | None
    whose: str
    split: str | UnsetType = UNSET
    notes: list[str]
    models: dict[str, ModelDescription]


class Total(Result, frozen=True):
    """The duration of a run in seconds."""

    total: Seconds


class DataSettings(Result, frozen=True):
    """The setting of a run that its report's title names."""

    data: str


def read_summary(folder: RunFolder, kind: type[Kind]) -> Kind:
    """Return the summary of a finished run as `kind`.

    Raises `RunError`, naming the file and the entry, for a run that has not finished, a summary of
    another command or a newer format, and one that is not of this kind.
    """
    summary, where = finished(folder), where_of(folder)
    command, version = summary.get("verb", folder.command), summary.get("format", FORMAT)
    if command != folder.command:
        shown_value = printable(repr(command))
        raise RunError(
            f"{where}: verb: the summary of {shown_value}, in a run of '{folder.command}'"
        )
    if type(version) is not int or version > FORMAT:
        shown_value = printable(repr(version))
        raise RunError(f"{where}: format: {shown_value}, and this robustkit reads up to {FORMAT}")
    return check_summary(summary, kind, where)


def check_summary(value: Any, kind: type[Kind], where: str) -> Kind:
    """Return plain `value` as `kind`, of whose intervals no end is missing or beyond the other.

    Raises `RunError`, which begins with `where` and names the entry.
    """
    checked = check_kind(value, kind, where, error=RunError)
    check_intervals(value, where)
    return checked


def check_intervals(value: Any, where: str) -> None:
    """Check every estimate in a plain value that has `low` and `high`: they and it fit together.

    Raises `RunError`, which begins with `where` and names the entry.
    """
    for position, entry in _inside(value):
        if not (isinstance(entry, Mapping) and "low" in entry and "high" in entry):
            continue
        low, high = entry["low"], entry["high"]
        if not all(item is None or isinstance(item, int | float) for item in (low, high)):
            continue  # none that `kind` knows, or it had been refused
        if (low is None) != (high is None) or (low is not None and low > high):
            raise RunError(f"{where}: {position}: low {low} and high {high} are no interval")
        for name in ("rate", "points", "p_value"):
            if name in entry and (entry[name] is None) != (low is None):
                raise RunError(f"{where}: {position}: {name} and interval: one is null, one is not")
        if low is not None and entry.get("mean", low) is None:
            raise RunError(f"{where}: {position}: an interval without a mean")


def read_settings(folder: RunFolder, kind: type[Kind]) -> Kind:
    """Return those of a run's settings that `kind`, a dataclass or `Result`, names.

    Raises `RunError`, naming `config.yaml` and the entry, for settings that are none.
    """
    where = f"{folder.file('config.yaml')}: config"
    try:
        return check_kind(folder.config, kind, where, error=RunError)
    except RunError:
        raise
    except RobustkitError as error:  # of a dataclass's own checks, which know of no file
        raise RunError(f"{where}: {error}") from None


def where_of(folder: RunFolder) -> str:
    """Return what errors about a run's summary begin with."""
    return str(folder.file("summary.json"))


def check_length(what: str, entries: Sequence[Any], expected: int, folder: RunFolder) -> None:
    """Raise `RunError`, naming the entry, unless a list of a summary has so many parts."""
    if len(entries) != expected:
        raise RunError(
            f"{where_of(folder)}: {printable(what)}: expected {expected:,} entries, not "
            f"{len(entries):,}"
        )


def check_has(table: Mapping[str, Any], names: Iterable[str], where: str) -> None:
    """Raise `RunError`, which begins with `where`, where a table lacks one of `names`."""
    for name in names:
        if name not in table:
            raise RunError(f"{where}: '{printable(name)}' is missing")


def check_alike(one: Sequence[Any], other: Sequence[Any], where: str, what: str) -> None:
    """Raise `RunError` where two lists that belong together are not of one length."""
    if len(one) != len(other):
        raise RunError(f"{where}: {len(one)} and {len(other)} {what}, which belong together")


def check_lines(value: Any, where: str) -> None:
    """Check that every name and text in a plain value is one line that a terminal only shows.

    For what is printed as it is. Raises `RunError`, which begins with `where` and names the entry.
    """
    for position, item in _inside(value):
        names = item.keys() if isinstance(item, Mapping) else [item]
        for text in names:
            if isinstance(text, str) and not is_printable(text):
                raise RunError(f"{where}: {position}: not one line of text: {shown(text)}")


def shown(text: object) -> str:
    """Return a text of anyone's for a message: in quotes, printable, its end cut off."""
    quoted = printable(repr(text))
    return quoted if len(quoted) <= 60 else f"{quoted[:60]}…"


def _inside(value: Any, position: str = "") -> Iterator[tuple[str, Any]]:
    """Return a plain value and all values in it, each with its place: `nets.R.clean_acc`."""
    yield position or "the summary", value
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _inside(
                item, f"{position}.{printable(name)}" if position else printable(name)
            )
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _inside(item, f"{position}[{number}]")
