"""What a finished evaluation left to be told: its summary, checked when it is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from msgspec import Meta

from robustkit.errors import RunError
from robustkit.reading import printable
from robustkit.runs import RunFolder
from robustkit.runs.summaries import (
    Amount,
    Cosine,
    Count,
    Finding,
    PixelSpace,
    Quartiles,
    Radius,
    Rate,
    Share,
    Total,
    check_has,
    read_summary,
    where_of,
)


class Attack(TypedDict):
    """The attack that was made on sources."""

    name: str
    norm: str
    eps: Radius
    steps: NotRequired[Count]


class Net(TypedDict):
    """What is known of one net; norms where gradients were compared."""

    clean_acc: Share
    warnings: NotRequired[list[Finding]]
    grad_norm_mean: NotRequired[Amount]
    grad_norm_quartiles: NotRequired[Quartiles]
    grad_zero: NotRequired[Share]


Denominator = Literal["headline", "fooling", "all"]


class Cell(TypedDict):
    """What one source's adversarials do to one target."""

    headline: Rate
    fooling: Rate
    all: Rate


class Steered(Cell):
    """The same where they were steered to a label."""

    reached: Rate


class Cosines(TypedDict):
    """How the input gradients of two nets lie to each other; null where one has none."""

    cos_mean: Cosine | None
    cos_abs_mean: Cosine | None
    cos_quartiles: Annotated[list[Cosine], Meta(min_length=3, max_length=3)] | None


class Sets(TypedDict):
    """Where the sets of adversarials are from."""

    keys: dict[str, str]
    imported: dict[str, Any]
    hits: Count
    misses: Count
    notes: list[str]


Row = Annotated[dict[str, Cell], Meta(min_length=1)]
Matrix = dict[str, Row]


class Summary(TypedDict):
    """`summary.json` of an evaluation.

    Without `--gradients` there are neither `cosines` nor norms, and `flipped` and `targeted` are
    there where they were asked for; those of older versions have no `pixel_space`.
    """

    n: Count
    n_common: Count
    attack: Attack
    nets: Annotated[dict[str, Net], Meta(min_length=1)]
    pixel_space: NotRequired[PixelSpace]
    matrix: Annotated[Matrix, Meta(min_length=1)]
    mcnemar: dict[str, dict[str, Share]]
    flipped: NotRequired[Annotated[Matrix, Meta(min_length=1)]]
    targeted: NotRequired[Annotated[dict[str, dict[str, Steered]], Meta(min_length=1)]]
    cosines: NotRequired[dict[str, Cosines]]
    gradient_images: NotRequired[Count]
    sets: Sets
    seconds: Total


def read(folder: RunFolder) -> Summary:
    """Return the summary; raises `RunError`, naming the entry, for what is none of a transfer."""
    summary = read_summary(folder, Summary)
    targets = list(next(iter(summary["matrix"].values())))
    for name, matrix in _matrices(summary):
        for source, row in matrix.items():
            check_has(row, targets, f"{where_of(folder)}: {name}.{source}")
            if len(row) != len(targets):
                where = printable(f"{name}.{source}")
                raise RunError(f"{where_of(folder)}: {where}: other targets than the first row's")
    if "gradient_images" in summary:
        check_has(summary, ["cosines"], f"{where_of(folder)}: the summary")
        for name, net in summary["nets"].items():
            norms = ["grad_norm_mean", "grad_norm_quartiles", "grad_zero"]
            check_has(net, norms, f"{where_of(folder)}: nets.{name}")
    return summary


def _matrices(summary: Summary) -> Iterator[tuple[str, Mapping[str, Mapping[str, Any]]]]:
    yield "matrix", summary["matrix"]
    if "flipped" in summary:
        yield "flipped", summary["flipped"]
    if "targeted" in summary:
        yield "targeted", summary["targeted"]
