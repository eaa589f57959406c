"""The summaries of the studies of one small net: filters, and regions."""

from __future__ import annotations

from typing import Annotated, NotRequired, TypedDict

from msgspec import Meta

from robustkit.errors import RunError
from robustkit.runs.summaries import Amount, Count, Digits, MeanShare, check_alike


class Trained(TypedDict):
    """A training: its size, and its accuracy on n test images."""

    filters: Count
    parameters: Count
    test_acc: MeanShare
    n: Count


Table = Annotated[list[Annotated[list[Count], Meta(min_length=2)]], Meta(min_length=2)]


class Paths(TypedDict):
    """Counts of winning and of second paths by class (K,I,J)."""

    per_class: Count
    winners: Annotated[list[Table], Meta(min_length=1)]
    seconds: list[Table]
    share_of_first: list[MeanShare]
    residual_max: Amount


class Regions(TypedDict):
    """By class the share that a region flips, and regions covered to a flip."""

    regions: Count
    per_class: Count
    flipped_by_one: list[MeanShare | None]
    covered_to_flip: list[list[Count]]
    never_flipped: NotRequired[list[Count]]


Seeds = Annotated[dict[str, Trained], Meta(min_length=1)]


class FilterSummary(TypedDict):
    """Trainings by number of filters and seed, paths by seed."""

    study: str
    train: dict[Digits, Seeds]
    paths: NotRequired[dict[str, Paths]]


class RegionSummary(TypedDict):
    """Regions by seed."""

    study: str
    regions: Annotated[dict[str, Regions], Meta(min_length=1)]


def check_filters(summary: FilterSummary, where: str, chosen: int) -> None:
    """Raise `RunError` without the net of `chosen` filters, and where tables do not fit."""
    if str(chosen) not in summary["train"]:
        raise RunError(f"{where}: train: '{chosen}' is missing")
    for seed, found in summary.get("paths", {}).items():
        check_paths(found, f"{where}: paths.{seed}")


def check_paths(found: Paths, where: str) -> None:
    """Raise `RunError` where the tables of a training are not all of one size."""
    winners, seconds = found["winners"], found["seconds"]
    check_alike(winners, seconds, where, "classes in winners and seconds")
    check_alike(winners, found["share_of_first"], where, "classes in winners and share_of_first")
    tables: list[list[list[int]]] = [*winners, *seconds]
    sizes = {len(table) for table in tables} | {len(row) for table in tables for row in table}
    if len(sizes) > 1:
        raise RunError(f"{where}: winners and seconds are not all squares of one size")


def check_regions(summary: RegionSummary, where: str) -> None:
    """Raise `RunError` where no image of a training was right."""
    for seed, found in summary["regions"].items():
        if all(share is None for share in found["flipped_by_one"]):
            raise RunError(f"{where}: regions.{seed}.flipped_by_one: no share of any class")
