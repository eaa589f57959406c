"""The summary of an adaptation, as its readers know it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NotRequired, TypedDict

from msgspec import Meta

from adaptation.recipes import recipe
from robustkit.errors import ConfigError, RunError
from robustkit.reading import printable
from robustkit.runs import RunFolder
from robustkit.runs.summaries import (
    Amount,
    Count,
    Interval,
    MeanShare,
    Positive,
    Real,
    check_alike,
    check_summary,
    read_summary,
    shown,
)


class Precision(TypedDict):
    """What is shown of a recipe on one domain, over trainings."""

    ap50_area: Interval
    coco_ap: Interval


class OfClass(TypedDict):
    """AP50 of one class over trainings."""

    ap50_area: Interval


class OnDomain(TypedDict):
    """A recipe on one domain."""

    ap50_area: MeanShare | None
    intervals: Precision
    classes: Annotated[dict[str, OfClass], Meta(max_length=5_000)]  # all are drawn
    images: Count


class Training(TypedDict):
    """One training on one domain."""

    ap50_area: MeanShare | None


class BothDomains(TypedDict):
    """One training."""

    source: Training
    target: Training


class Gain(TypedDict):
    """What a recipe gains over another, training by training."""

    over: str
    target: Interval


class Recipe(TypedDict):
    """All trainings of a recipe."""

    source: OnDomain
    target: OnDomain
    robust_source_interval: Interval
    robust_target_interval: Interval
    by_seed: list[BothDomains]
    seeds: Count
    seconds: Amount
    curves: list[Annotated[list[tuple[Count, Real]], Meta(max_length=10_000)]]
    gain: NotRequired[Gain]


class Shift(TypedDict):
    """Of the target, and what that advises; where it could not be measured, why."""

    advice: str


class Measured(Shift):
    """How far the target is: see `adaptation.shift.Shift`."""

    frechet: Amount
    within_source: Amount
    ratio: Positive
    low: Amount
    high: Amount
    cloud: Count
    images: tuple[Count, Count]
    threshold: Positive


class Summary(TypedDict):
    """What `summary.json` holds."""

    recipes: Annotated[dict[str, Recipe], Meta(min_length=1)]
    shift: dict[str, Any]
    notes: NotRequired[list[str]]


@dataclass(frozen=True)
class Adapted:
    """Everything that is drawn; `measured` is None where the shift is not."""

    recipes: Mapping[str, Recipe]
    advice: str
    measured: Measured | None
    notes: Sequence[str]


class OneClass(TypedDict):
    """What a training says of a class."""

    ap50_area: MeanShare | None
    objects: Count


class Evaluated(TypedDict):
    """What a training says of a domain."""

    ap50_11pt: MeanShare | None
    ap50_area: MeanShare | None
    coco_ap: MeanShare | None
    coco_ap50: MeanShare | None
    coco_ap75: MeanShare | None
    classes: dict[str, OneClass]
    sizes: Any
    images: Count
    objects: Count


class Trained(TypedDict):
    """What a training gives."""

    source: Evaluated
    target: Evaluated
    robust_source_ap50: MeanShare | None
    robust_target_ap50: MeanShare | None
    steps: Count
    curve: list[tuple[Count, Real]]


def summary_of(folder: RunFolder) -> Adapted:
    """Return the summary of a finished adaptation.

    Raises `RunError`, naming the file and the entry, where that was edited so that it cannot be
    drawn.
    """
    summary = read_summary(folder, Summary)
    where, recipes = str(folder.file("summary.json")), summary["recipes"]
    classes = list(next(iter(recipes.values()))["target"]["classes"])
    if not classes:
        raise RunError(f"{where}: recipes: no class on the target")
    for name, found in recipes.items():
        place = f"{where}: recipes.{printable(name)}"
        try:
            recipe(name)
        except ConfigError as error:
            raise RunError(f"{where}: recipes: {error}") from error
        if list(found["target"]["classes"]) != classes:
            raise RunError(f"{place}.target.classes: not those of the first recipe")
        if "gain" in found:
            over = found["gain"]["over"]
            if over not in recipes:
                raise RunError(f"{place}.gain.over: {shown(over)} is none of the recipes")
            both = (found["by_seed"], recipes[over]["by_seed"])
            check_alike(*both, f"{place}.by_seed", f"trainings of it and of '{over}'")
    told, place = summary["shift"], f"{where}: shift"
    measured = None if told.get("ratio") is None else check_summary(told, Measured, place)
    advice = check_summary(told, Shift, place)["advice"]
    return Adapted(recipes, advice, measured, summary.get("notes", []))
