"""What summaries are made of, and how a run's own are read: checked once, when the folder is.

Every command describes its summary as a `TypedDict`; whatever draws gets only what has passed. The
kinds here are those that several commands' summaries share.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, TypedDict, TypeVar

from msgspec import Meta

from experiments.pages import finished
from robustkit.errors import RunError
from robustkit.geometry import LARGEST
from robustkit.reading import check_kind, printable
from robustkit.runs import RunFolder
from robustkit.runs.folder import FORMAT

Kind = TypeVar("Kind")

MOST = 2**63 - 1
FLOAT32 = 3.4028235e38  # whatever a net can say, and an axis can show
ROUNDING = 1.001  # of cosines and correlations, which rounding takes a hair beyond one

Share = Annotated[float, Meta(ge=0, le=1)]
Real = Annotated[float, Meta(ge=-FLOAT32, le=FLOAT32)]
Amount = Annotated[float, Meta(ge=0, le=FLOAT32)]
Cosine = Annotated[float, Meta(ge=-ROUNDING, le=ROUNDING)]
Probability = Annotated[float, Meta(ge=0, le=ROUNDING)]  # a mean of several
Radius = Annotated[float, Meta(ge=0, le=1e6)]
Seconds = Annotated[float, Meta(ge=0, le=1e12)]
Count = Annotated[int, Meta(ge=0, le=MOST)]
Number = Annotated[int, Meta(ge=1, le=MOST)]
Epoch = Annotated[int, Meta(ge=0, le=10**9)]
Side = Annotated[int, Meta(ge=1, le=LARGEST)]
Size = Annotated[list[Side], Meta(min_length=2, max_length=2)]
Quartiles = Annotated[list[Amount], Meta(min_length=3, max_length=3)]


class Rate(TypedDict):
    """A share of `n` images with its interval; all three None where there are none."""

    rate: Share | None
    n: Count
    low: Share | None
    high: Share | None


class KnownRate(TypedDict):
    """The same where there are images."""

    rate: Share
    n: Count
    low: Share
    high: Share


class Finding(TypedDict):
    """What casts doubt on a value."""

    name: str
    seen: str
    means: str


class Published(TypedDict):
    """The accuracy that others published of a model."""

    accuracy: Share


class GeometryTold(TypedDict):
    """See `robustkit.geometry.Geometry`; the filters are its `INTERPOLATIONS`."""

    size: Size
    resize: Side | Size | None  # no tuples: msgspec 0.23 crashes on them beside bounded numbers
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]


class ModelTold(TypedDict):
    """What a report says of a model beside its rates."""

    preprocessing: str
    input_size: Size | None
    notes: list[str]
    published: Published | None


class PixelSpace(TypedDict):
    """In which pixel space models were compared; see `experiments.judged.Judged.described`."""

    shape: Annotated[list[Number], Meta(min_length=3, max_length=3)]
    geometry: GeometryTold | None
    whose: str
    notes: list[str]
    models: dict[str, ModelTold]


class Total(TypedDict):
    """How long a run took."""

    total: Seconds


class DataSettings(TypedDict):
    """What a report says of a run's settings by itself."""

    data: str


def read_summary(folder: RunFolder, kind: type[Kind]) -> Kind:
    """Return the summary of a finished run as `kind`.

    Raises `RunError`, naming the file and the entry, for a run that has not finished, a summary of
    another command or a newer format, and one that is not of this kind.
    """
    summary, where = finished(folder), where_of(folder)
    verb, version = summary.get("verb", folder.verb), summary.get("format", FORMAT)
    if verb != folder.verb:
        told = printable(repr(verb))
        raise RunError(f"{where}: verb: the summary of {told}, in a run of '{folder.verb}'")
    if type(version) is not int or version > FORMAT:
        told = printable(repr(version))
        raise RunError(f"{where}: format: {told}, and this robustkit reads up to {FORMAT}")
    checked = check_kind(summary, kind, where, error=RunError)
    for place, found in _intervals(checked, ""):
        low, high = found["low"], found["high"]
        if (low is None) != (high is None) or (low is not None and low > high):
            raise RunError(f"{where}: {place}: low {low} and high {high} are no interval")
        if "rate" in found and (found["rate"] is None) != (low is None):
            raise RunError(f"{where}: {place}: rate and interval go together, or are both null")
    return checked


def read_settings(folder: RunFolder, kind: type[Kind]) -> Kind:
    """Return those of a run's settings that `kind` names; raises `RunError`, naming the entry."""
    return check_kind(folder.config, kind, f"{folder.file('config.yaml')}: config", error=RunError)


def where_of(folder: RunFolder) -> str:
    """Return what errors about a run's summary begin with."""
    return str(folder.file("summary.json"))


def check_length(what: str, found: Sequence[Any], expected: int, folder: RunFolder) -> None:
    """Raise `RunError`, naming the entry, unless a list of a summary has so many parts."""
    if len(found) != expected:
        raise RunError(
            f"{where_of(folder)}: {printable(what)}: expected {expected:,} entries, not "
            f"{len(found):,}"
        )


def check_names(
    what: str, found: Mapping[str, Any], expected: Sequence[str], folder: RunFolder
) -> None:
    """Raise `RunError`, naming the entry, where a table of a summary lacks one of the names."""
    for name in expected:
        if name not in found:
            raise RunError(f"{where_of(folder)}: {printable(f'{what}: {name!r}')} is missing")


def _intervals(value: Any, place: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every mapping with `low` and `high` in a value, with its place."""
    if isinstance(value, Mapping):
        if "low" in value and "high" in value:
            yield place or "the summary", value
        for name, inner in value.items():
            if isinstance(inner, Mapping | list):
                yield from _intervals(inner, f"{place}.{printable(name)}".removeprefix("."))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            if isinstance(inner, Mapping | list):
                yield from _intervals(inner, f"{place}[{index}]")
