"""The summary of the study of a shift between two collections of digits."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from experiments.studies.base import StudySummary
from robustkit.errors import RunError
from robustkit.runs.summaries import (
    Amount,
    MeanShare,
    Positive,
    Result,
    check_has,
    shown,
)


class Shift(Result, frozen=True, kw_only=True):
    """What is read of a measured shift."""

    ratio: Amount
    threshold: Positive
    advice: str


class Trained(Result, frozen=True, kw_only=True):
    """Accuracies of one training on both collections, and the shift as it sees it."""

    source: MeanShare
    target: MeanShare
    robust: MeanShare
    target_adabn: MeanShare
    shift: Shift


Seeds = Annotated[dict[str, Trained], Meta(min_length=1)]
Radii = dict[str, Seeds]


class Summary(StudySummary, frozen=True, kw_only=True):
    """Trainings by source, radius and seed."""

    sources: dict[Literal["digits", "mnist"], Radii]


def check(summary: Summary, where: str, needed: tuple[str, ...]) -> None:
    """Raise `RunError` where a radius, or plain training of a seed, is missing."""
    for source, of in summary.sources.items():
        check_has(of, needed, f"{where}: sources.{source}")
        for eps, runs in of.items():
            lacking = [seed for seed in runs if seed not in of["0"]]
            if lacking:
                raise RunError(
                    f"{where}: sources.{source}.0: the seed {shown(lacking[0])} of {shown(eps)} "
                    "is missing"
                )
