"""The summaries of the studies of one small net: filters, and regions."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from experiments.studies.base import StudySummary
from robustkit.errors import RunError
from robustkit.runs.summaries import (
    Amount,
    Count,
    Digits,
    MeanShare,
    Result,
    check_alike,
)


class Trained(Result, frozen=True, kw_only=True):
    """A training: its size, and its accuracy on n test images."""

    filters: Count
    parameters: Count
    test_acc: MeanShare
    n: Count


Table = Annotated[list[Annotated[list[Count], Meta(min_length=2)]], Meta(min_length=2)]


class Paths(Result, frozen=True, kw_only=True):
    """Counts of winning and of second paths by class (K,I,J)."""

    per_class: Count
    winners: Annotated[list[Table], Meta(min_length=1)]
    seconds: list[Table]
    share_of_first: list[MeanShare]
    residual_max: Amount


Seeds = Annotated[dict[str, Trained], Meta(min_length=1)]


class Summary(StudySummary, frozen=True, kw_only=True):
    """Trainings by number of filters and seed, paths by seed."""

    train: dict[Digits, Seeds]
    paths: dict[str, Paths] = field(default_factory=dict)


def check(summary: Summary, where: str, chosen: int) -> None:
    """Raise `RunError` without the net of `chosen` filters, and where tables do not fit."""
    if str(chosen) not in summary.train:
        raise RunError(f"{where}: train: '{chosen}' is missing")
    for seed, found in summary.paths.items():
        check_paths(found, f"{where}: paths.{seed}")


def check_paths(found: Paths, where: str) -> None:
    """Raise `RunError` where the tables of a training are not all of one size."""
    winners, seconds = found.winners, found.seconds
    check_alike(winners, seconds, where, "classes in winners and seconds")
    check_alike(winners, found.share_of_first, where, "classes in winners and share_of_first")
    tables: list[list[list[int]]] = [*winners, *seconds]
    sizes = {len(table) for table in tables} | {len(row) for table in tables for row in table}
    if len(sizes) > 1:
        raise RunError(f"{where}: winners and seconds are not all squares of one size")
