"""What a repair leaves in its folder, as types that are checked when read."""

from __future__ import annotations

from typing import Annotated, TypedDict

from msgspec import Meta

from robustkit.errors import RunError
from robustkit.reading import check_kind, printable
from robustkit.runs import RunFolder
from robustkit.runs.folder import finished
from robustkit.runs.summaries import Count, Number, Rate, Real, Seconds, Share, check_intervals

Interval = tuple[Share | None, Share | None]


class Outcome(TypedDict):
    """What `robustkit.repair.Verdict.to_dict` gives; rates are None of no image."""

    n: Count
    n_neg: Count
    n_pos: Count
    acc_before: Share
    acc_after: Share
    rr: Share | None
    br: Share | None
    rr_interval: Interval
    br_interval: Interval


class HeldOut(Outcome):
    """The same of held-out images, and how many of them were left out."""

    dropped: Count


class RunResult(Outcome):
    """One run of the search; descents have no fitness and no trace."""

    held_out: Outcome | None
    changed: Count
    iterations: Count
    fitness: Real | None
    fitness_before: Real | None
    trace: list[Real | None]


class LocalisationResult(TypedDict):
    """How many weights a ranking takes, sizes of sets on the way, and what there is to say."""

    top: Count
    sizes: dict[str, Count]
    notes: list[str]


class ClassResult(TypedDict):
    """Counts of a class's images."""

    n: Count
    right_before: Count
    right_after: Count
    repaired: Count
    broken: Count


class Doubt(TypedDict):
    """A sign that a robust accuracy is none."""

    name: str
    seen: str
    means: str


class RobustRate(Rate):
    """A robust accuracy and what speaks against it."""

    diagnostics: list[Doubt]


class AttackSteps(TypedDict):
    """Of the attack's settings, what is drawn."""

    steps: Number


class SideEffects(TypedDict):
    """Accuracy under attack, and transfer, before and after."""

    n: Count
    eps: Share
    attack: AttackSteps
    robust: dict[str, RobustRate]
    transfer: dict[str, Rate]


class Summary(Outcome):
    """`summary.json`, as far as it is drawn or told."""

    method: str
    held_out: HeldOut | None
    n_deg: Count | None
    n_imp: Count | None
    localised: dict[str, Count]
    changed: Count
    repaired_indices: list[Count]
    broken_indices: list[Count]
    seconds: Seconds
    unchanged: bool
    scored_by: str
    localisation: LocalisationResult | None
    per_class: dict[str, ClassResult]
    best: Count
    runs: Annotated[list[RunResult], Meta(min_length=1)]
    side_effects: SideEffects | None


class Settings(TypedDict):
    """Of config.yaml, what is drawn beside the table of all settings."""

    data: str


def read_summary(folder: RunFolder) -> Summary:
    """The summary of a finished repair; raises `RunError` if it has not finished, or was edited."""
    where = str(folder.file("summary.json"))
    summary = check_kind(finished(folder), Summary, where, error=RunError)
    check_intervals(summary["side_effects"], f"{where}: side_effects")
    _check_outcome(summary, where)
    if summary["held_out"] is not None:
        _check_outcome(summary["held_out"], f"{where}: held_out")
    for number, run in enumerate(summary["runs"]):
        place = f"{where}: runs[{number}]"
        _check_outcome(run, place)
        if (run["held_out"] is None) != (summary["held_out"] is None):
            raise RunError(f"{place}.held_out: there for some runs, and not for all")
        if run["held_out"] is not None:
            _check_outcome(run["held_out"], f"{place}.held_out")
        if run["trace"] and run["fitness_before"] is None:
            raise RunError(f"{place}.fitness_before: null beside a trace")
    if summary["best"] >= len(summary["runs"]):
        raise RunError(f"{where}: best: {summary['best']}, of {len(summary['runs'])} runs")
    for kind, among in (("repaired", summary["n_neg"]), ("broken", summary["n_pos"])):
        count = len(summary["repaired_indices" if kind == "repaired" else "broken_indices"])
        if count > among:
            raise RunError(f"{where}: {kind}_indices: {count} of {among} images")
    for name, each in summary["per_class"].items():
        if max(each.values()) > each["n"]:  # type: ignore[type-var, operator]
            raise RunError(f"{where}: per_class: '{printable(name)}': more images than n")
    return summary


def _check_outcome(found: Outcome, where: str) -> None:
    """Rates are there where there are images, and lie in their intervals."""
    for name, rate, (low, high), among in (
        ("rr", found["rr"], found["rr_interval"], found["n_neg"]),
        ("br", found["br"], found["br_interval"], found["n_pos"]),
    ):
        if low is None or high is None or rate is None:
            if (low, high, rate) != (None, None, None) or among:
                raise RunError(f"{where}: {name}: null in part, or of {among} images")
        elif not low <= rate <= high or not among:
            raise RunError(f"{where}: {name}: {rate:g} of {among} images, within {low:g}, {high:g}")
    if found["n_neg"] + found["n_pos"] > found["n"]:
        raise RunError(f"{where}: n: fewer images than n_neg and n_pos together")
