"""The summary of the study of search strategies."""

from __future__ import annotations

from typing import Annotated, TypedDict

from msgspec import Meta

from experiments.studies.base import StudySummary
from robustkit.errors import RunError
from robustkit.runs.summaries import (
    Amount,
    Count,
    MeanShare,
    Result,
    check_has,
    shown,
)

Volume = Annotated[float, Meta(ge=0, le=100)]
Volumes = dict[str, Volume]
"""At the shares of the cost."""


class Searched(Result, frozen=True, kw_only=True):
    """One search of a seed: what it found by when, and what it spent."""

    hypervolume: Volumes
    trials: Count
    failed: Count
    epochs: Amount
    time: Amount


class Measured(Result, frozen=True, kw_only=True):
    """A net trained from scratch, on test images."""

    accuracy: MeanShare
    transfer: MeanShare


class Tested(Result, frozen=True, kw_only=True):
    """The same; None for a net that failed, and for what cannot be told."""

    accuracy: MeanShare | None
    transfer: MeanShare | None


class Baseline(Result, frozen=True, kw_only=True):
    """What a search asks of a trial of R's architecture."""

    accuracy: MeanShare
    macs: Annotated[int, Meta(ge=1)]


class Reference(Result, frozen=True, kw_only=True):
    """R's architecture retrained as the nets that were found are."""

    judged: Measured


Seeds = Annotated[dict[str, Searched], Meta(min_length=1)]


Nets = list[Tested]
# At the shares of the cost.
Moments = TypedDict("Moments", {"0.25": Nets, "0.5": Nets, "0.75": Nets, "1": Nets})


class Spent(Result, frozen=True, kw_only=True):
    """What a search gives."""

    trials: Count
    failed: Count
    epochs: Amount
    time: Amount
    moments: Moments


class Summary(StudySummary, frozen=True, kw_only=True):
    """By search and seed; the reference by seed."""

    searches: Annotated[dict[str, Seeds], Meta(min_length=1, max_length=500)]
    reference: Annotated[dict[str, Reference], Meta(min_length=1)]


def check(summary: Summary, where: str, rivals: tuple[str, ...], moments: tuple[str, ...]) -> None:
    """Raise `RunError` where a rival lacks a seed of a search, and a search one of `moments`."""
    searches = summary.searches
    for search, of in searches.items():
        for seed, each in of.items():
            place = f"{where}: searches.{search}.{seed}.hypervolume"
            check_has(each.hypervolume, moments, place)
            if len(each.hypervolume) > len(moments):
                raise RunError(f"{place}: has more than {', '.join(moments)}")
    for rival in rivals:
        for search, of in searches.items():
            lacking = [] if rival not in searches else [s for s in of if s not in searches[rival]]
            if lacking:
                raise RunError(
                    f"{where}: searches.{rival}: the seed {shown(lacking[0])} of {shown(search)} "
                    "is missing"
                )
