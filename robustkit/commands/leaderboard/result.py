"""The result of a leaderboard, as the program and `summary.json` have it."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from robustkit.errors import RunError
from robustkit.runs import RunFolder
from robustkit.runs.summaries import (
    Amount,
    Count,
    Finding,
    PixelSpace,
    Radius,
    Result,
    Share,
    Total,
    read_summary,
    where_of,
)
from robustkit.stats import Mean, Rate

By = dict[str, dict[str, Rate]]


class Entry(Result, frozen=True, kw_only=True):
    """One attack: its success on others' nets, its ranks, and what an adversarial costs.

    `score` and ranks are over all pairs of a source and another net as target, and unset where a
    source cannot be attacked so: `refused` says why, by source. `cells` are by source and target,
    over the images that all nets get right. `seconds` and `passes` (forward passes of the source,
    most of them with a backward one) are of one image, unknown where a set was there already.
    """

    score: Mean | None
    best: Count | None
    worst: Count | None
    cells: By
    refused: dict[str, str]
    seconds: Amount | None
    passes: Amount | None


class Summary(Result, frozen=True, kw_only=True):
    """`summary.json` of a leaderboard; `attacks` are in the order of the suite."""

    n: Count
    n_common: Count
    eps: Radius
    norm: str
    sources: Annotated[list[str], Meta(min_length=1)]
    targets: Annotated[list[str], Meta(min_length=1)]
    clean: dict[str, Share]
    attacks: Annotated[dict[str, Entry], Meta(min_length=1)]
    pixel_space: PixelSpace
    device: str
    seconds: Total
    # What is suspect about clean accuracies, by net; runs of older versions did not look.
    warnings: dict[str, list[Finding]] = {}  # noqa: RUF012 - msgspec copies it


def read(folder: RunFolder) -> Summary:
    """Return the summary; raises `RunError`, naming the entry, where it is no leaderboard's."""
    summary, where = read_summary(folder, Summary), where_of(folder)
    for name, entry in summary.attacks.items():
        if not entry.cells.keys() | entry.refused.keys() >= set(summary.sources):
            raise RunError(f"{where}: attacks.{name}: a source is missing")
        if (entry.score is None) != (entry.best is None):
            raise RunError(f"{where}: attacks.{name}: a score without ranks, or ranks without one")
    return summary


def in_order(summary: Summary) -> list[str]:
    """Return the attacks, those with the highest score first, those without a score last."""

    def place(name: str) -> tuple[bool, float]:
        score = summary.attacks[name].score
        value = None if score is None else score.value
        return value is None, -(value or 0.0)

    return sorted(summary.attacks, key=place)
