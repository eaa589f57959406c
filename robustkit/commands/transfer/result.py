"""The result of a transfer evaluation, as the program and `summary.json` have it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType

from robustkit.errors import RunError
from robustkit.evaluation.gradient_similarity import Cosines
from robustkit.reading import printable
from robustkit.runs import RunFolder
from robustkit.runs.summaries import (
    Amount,
    Count,
    Finding,
    PixelSpace,
    Published,
    Quartiles,
    Radius,
    Result,
    Share,
    Total,
    check_has,
    read_summary,
    where_of,
)
from robustkit.stats import KnownRate, Rate

Denominator = Literal["headline", "fooling", "all"]


class Attack(Result, frozen=True):
    """The attack on the sources; of its other parameters a report says nothing."""

    name: str
    norm: str
    eps: Radius
    steps: Count | UnsetType = UNSET


class Net(Result, frozen=True, kw_only=True):
    """The clean accuracy of a model, findings, and norms where gradients were compared."""

    clean_acc: Share
    clean: KnownRate | UnsetType = UNSET
    published: Published | UnsetType | None = UNSET
    warnings: list[Finding] = []  # noqa: RUF012 - msgspec copies it
    diagnostics: list[Finding] = []  # noqa: RUF012
    grad_norm_mean: Amount | UnsetType = UNSET
    grad_norm_quartiles: Quartiles | UnsetType = UNSET
    grad_zero: Share | UnsetType = UNSET


class Cell(Cosines, frozen=True, kw_only=True):
    """The effect of one source's adversarials on one target, by denominator."""

    headline: Rate
    fooling: Rate
    all: Rate
    reached: Rate | UnsetType = UNSET  # where adversarials were steered to a label


class Sets(Result, frozen=True):
    """The origin of the sets of adversarials."""

    keys: dict[str, str]
    imported: dict[str, Any]
    hits: Count
    misses: Count
    notes: list[str]


Row = Annotated[dict[str, Cell], Meta(min_length=1)]
Matrix = Annotated[dict[str, Row], Meta(min_length=1)]


class Summary(Result, frozen=True, kw_only=True):
    """`summary.json` of an evaluation.

    Without `--gradients` there are neither `cosines` nor norms, and `flipped` and `targeted` are
    there where they were asked for; those of older versions have no `pixel_space`.
    """

    n: Count
    n_common: Count
    attack: dict[str, Any]  # all parameters, read as an `Attack`
    nets: Annotated[dict[str, Net], Meta(min_length=1)]
    pixel_space: PixelSpace | UnsetType = UNSET
    round: bool | UnsetType = UNSET
    matrix: Matrix
    mcnemar: dict[str, dict[str, Share]]
    flipped: Matrix | UnsetType = UNSET
    targeted: Matrix | UnsetType = UNSET
    cosines: dict[str, Cosines] | UnsetType = UNSET
    gradient_images: Count | UnsetType = UNSET
    sets: Sets
    seconds: Total


def read(folder: RunFolder) -> Summary:
    """Return the summary; raises `RunError`, naming the entry, for what is none of a transfer."""
    summary, where = read_summary(folder, Summary), where_of(folder)
    Attack.from_json(summary.attack, f"{where}: attack")
    targets = list(next(iter(summary.matrix.values())))
    for name, matrix in _matrices(summary):
        for source, row in matrix.items():
            check_has(row, targets, f"{where}: {name}.{source}")
            if len(row) != len(targets):
                place = printable(f"{name}.{source}")
                raise RunError(f"{where}: {place}: other targets than the first row's")
            for target, cell in row.items():
                if name == "targeted" and cell.reached is UNSET:
                    place = printable(f"{name}.{source}.{target}")
                    raise RunError(f"{where}: {place}: 'reached' is missing")
    if summary.gradient_images is not UNSET:
        if summary.cosines is UNSET:
            raise RunError(f"{where}: the summary: 'cosines' is missing")
        for name, net in summary.nets.items():
            norms = ("grad_norm_mean", "grad_norm_quartiles", "grad_zero")
            check_has(net.to_json(), norms, f"{where}: nets.{name}")
    return summary


def _matrices(summary: Summary) -> Iterator[tuple[str, Mapping[str, Mapping[str, Cell]]]]:
    yield "matrix", summary.matrix
    if summary.flipped is not UNSET:
        yield "flipped", summary.flipped
    if summary.targeted is not UNSET:
        yield "targeted", summary.targeted
