"""The summary of the study of two collections of digits."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

from msgspec import Meta

from experiments.summaries import Amount, MeanShare, Positive, check_has, shown
from robustkit.errors import RunError


class Shift(TypedDict):
    """What is read of a measured shift."""

    ratio: Amount
    threshold: Positive
    advice: str


class Trained(TypedDict):
    """Accuracies of one training on both collections, and the shift as it sees it."""

    source: MeanShare
    target: MeanShare
    robust: MeanShare
    target_adabn: MeanShare
    shift: Shift


Seeds = Annotated[dict[str, Trained], Meta(min_length=1)]
Radii = dict[str, Seeds]


class Summary(TypedDict):
    """Trainings by source, radius and seed."""

    study: str
    sources: dict[Literal["digits", "mnist"], Radii]


def check(summary: Summary, where: str, needed: tuple[str, ...]) -> None:
    """Raise `RunError` where a radius, or plain training of a seed, is missing."""
    for source, of in summary["sources"].items():
        check_has(of, needed, f"{where}: sources.{source}")
        for eps, runs in of.items():
            lacking = [seed for seed in runs if seed not in of["0"]]
            if lacking:
                raise RunError(
                    f"{where}: sources.{source}.0: the seed {shown(lacking[0])} of {shown(eps)} "
                    "is missing"
                )
