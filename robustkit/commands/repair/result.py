"""The result of a repair, as the program and `summary.json` have it."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from robustkit.errors import RunError
from robustkit.reading import printable
from robustkit.repair import RepairMetrics, RepairResult
from robustkit.runs import RunFolder
from robustkit.runs.summaries import (
    Count,
    Finding,
    Number,
    Real,
    Result,
    Share,
    read_summary,
    where_of,
)
from robustkit.stats import Rate


class HeldOut(RepairMetrics, frozen=True, kw_only=True):
    """The metrics on held-out images, and how many were left out as copies."""

    dropped: Count


class RunResult(RepairMetrics, frozen=True, kw_only=True):
    """One run of the search; gradient descent has no fitness and no trace."""

    held_out: RepairMetrics | None
    changed: Count
    iterations: Count
    fitness: Real | None
    fitness_before: Real | None
    trace: list[Real | None]


class LocalisationResult(Result, frozen=True):
    """The number of weights that a ranking takes, sizes of sets on the way, and notes."""

    top: Count
    sizes: dict[str, Count]
    notes: list[str]


class ClassResult(Result, frozen=True):
    """Counts of the images of a class."""

    n: Count
    right_before: Count
    right_after: Count
    repaired: Count
    broken: Count


class RobustRate(Rate, frozen=True, kw_only=True):
    """A robust accuracy and the findings that cast doubt on it."""

    diagnostics: list[Finding]


class AttackSteps(Result, frozen=True):
    """The part of an attack's parameters that the report shows."""

    steps: Number


class SideEffects(Result, frozen=True):
    """Accuracy under attack, and transfer between the two models, before and after."""

    n: Count
    eps: Share
    attack: dict[str, Any]  # all parameters, read as `AttackSteps`
    robust: dict[str, RobustRate]
    transfer: dict[str, Rate]


class Summary(RepairResult, frozen=True, kw_only=True):
    """`summary.json` of a repair: the metrics are of the chosen run."""

    method: str
    protocol: str
    held_out: HeldOut | None
    unchanged: bool
    scored_by: str
    parent: str
    child: str
    localisation: LocalisationResult | None
    per_class: dict[str, ClassResult]
    best: Count
    runs: Annotated[list[RunResult], Meta(min_length=1)]
    side_effects: SideEffects | None


def read(folder: RunFolder) -> Summary:
    """Return the summary of a finished repair.

    Raises `RunError` if it has not finished or, naming the entry, for what is none of a repair.
    """
    summary, where = read_summary(folder, Summary), where_of(folder)
    if summary.side_effects is not None:
        AttackSteps.from_json(summary.side_effects.attack, f"{where}: side_effects.attack")
    _check_rates(summary, where)
    if summary.held_out is not None:
        _check_rates(summary.held_out, f"{where}: held_out")
    for number, run in enumerate(summary.runs):
        _check_run(run, summary, f"{where}: runs[{number}]")
    if summary.best >= len(summary.runs):
        raise RunError(f"{where}: best: {summary.best}, of {len(summary.runs)} runs")
    for kind, indices, among in (
        ("repaired", summary.repaired_indices, summary.n_neg),
        ("broken", summary.broken_indices, summary.n_pos),
    ):
        if len(indices) > among:
            raise RunError(f"{where}: {kind}_indices: {len(indices)} of {among} images")
    for name, counts in summary.per_class.items():
        if max(counts.to_json().values()) > counts.n:
            raise RunError(f"{where}: per_class: '{printable(name)}': more images than n")
    return summary


def _check_run(run: RunResult, summary: Summary, where: str) -> None:
    _check_rates(run, where)
    if (run.held_out is None) != (summary.held_out is None):
        raise RunError(f"{where}.held_out: there for some runs, and not for all")
    if run.held_out is not None:
        _check_rates(run.held_out, f"{where}.held_out")
    if run.trace and run.fitness_before is None:
        raise RunError(f"{where}.fitness_before: null beside a trace")


def _check_rates(metrics: RepairMetrics, where: str) -> None:
    """Check that rates are there where there are images, and lie in their intervals."""
    for name, rate, (low, high), among in (
        ("rr", metrics.rr, metrics.rr_interval, metrics.n_neg),
        ("br", metrics.br, metrics.br_interval, metrics.n_pos),
    ):
        if low is None or high is None or rate is None:
            if (low, high, rate) != (None, None, None) or among:
                raise RunError(f"{where}: {name}: null in part, or of {among} images")
        elif not low <= rate <= high or not among:
            raise RunError(f"{where}: {name}: {rate:g} of {among} images, within {low:g}, {high:g}")
    if metrics.n_neg + metrics.n_pos > metrics.n:
        raise RunError(f"{where}: n: fewer images than n_neg and n_pos together")
