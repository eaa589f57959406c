"""The summary of the study of important regions."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from experiments.studies.base import StudySummary
from robustkit.errors import RunError
from robustkit.runs.summaries import (
    Count,
    MeanShare,
    Result,
)


class Regions(Result, frozen=True, kw_only=True):
    """By class the share that a region flips, and regions covered to a flip."""

    regions: Count
    per_class: Count
    flipped_by_one: list[MeanShare | None]
    covered_to_flip: list[list[Count]]
    never_flipped: list[Count] = field(default_factory=list)


class Summary(StudySummary, frozen=True, kw_only=True):
    """Regions by seed."""

    regions: Annotated[dict[str, Regions], Meta(min_length=1)]


def check(summary: Summary, where: str) -> None:
    """Raise `RunError` where no image of a training was right."""
    for seed, found in summary.regions.items():
        if all(share is None for share in found.flipped_by_one):
            raise RunError(f"{where}: regions.{seed}.flipped_by_one: no share of any class")
