"""The summary of an adaptation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from msgspec import UNSET, Meta, UnsetType, field

from adaptation.evaluation.evaluate import DetectorEvaluation, Scores, SizePrecision
from adaptation.recipes import recipe
from adaptation.shift import Shift
from robustkit.errors import ConfigError, RunError
from robustkit.reading import printable
from robustkit.runs import RunFolder
from robustkit.runs.summaries import (
    Amount,
    Count,
    MeanShare,
    Positive,
    Real,
    Result,
    check_alike,
    read_summary,
    shown,
)
from robustkit.stats import Mean

Curve = Annotated[list[tuple[Count, Real]], Meta(max_length=10_000)]


class ScoreMeans(Result, frozen=True, kw_only=True):
    """Means over trainings with their intervals; see `Scores`. That of `ap50_area` is over
    trainings and pictures.
    """

    ap50_11pt: Mean
    ap50_area: Mean
    coco_ap: Mean
    coco_ap50: Mean
    coco_ap75: Mean


class ClassMean(Result, frozen=True, kw_only=True):
    """AP50 of one class over trainings, and its number of objects."""

    ap50_area: Mean
    objects: Count


class OnDomain(Scores, frozen=True, kw_only=True):
    """A recipe on one domain, means over trainings; `sizes` of the first training."""

    intervals: ScoreMeans
    classes: Annotated[dict[str, ClassMean], Meta(max_length=5_000)]  # all are drawn
    sizes: SizePrecision
    images: Count
    objects: Count


class BothDomains(Result, frozen=True, kw_only=True):
    """One training."""

    source: Scores
    target: Scores


class Gain(Result, frozen=True, kw_only=True):
    """The gain in AP50 by area `over` another recipe, training by training, its interval over
    trainings and pictures.
    """

    over: str
    source: Mean
    target: Mean


class Told(Result, frozen=True, kw_only=True):
    """How often alignment's classifiers told the domains right, in the last tenth of the steps.

    Of places and of images; one half is chance.
    """

    local: MeanShare
    whole: MeanShare


class Recipe(Result, frozen=True, kw_only=True):
    """All trainings of a recipe; the source's has no gain.

    `distances` are the ratios of Fréchet distances by each training's own features, None where
    there are too few images; `told` what its alignment told right; `one_step` AP50 on source images
    attacked in one step, where that attack was trained against.
    """

    source: OnDomain
    target: OnDomain
    robust_source_ap50: MeanShare | None
    robust_source_interval: Mean
    robust_target_ap50: MeanShare | None
    robust_target_interval: Mean
    by_seed: list[BothDomains]
    seeds: Count
    steps: Count
    seconds: Amount
    curves: list[Curve]
    gain: Gain | UnsetType = UNSET
    distances: list[Positive | None] | UnsetType = UNSET
    told: list[Told] | UnsetType = UNSET
    one_step: Mean | UnsetType = UNSET


class ShiftResult(Result, frozen=True, kw_only=True):
    """The distance of the target: see `adaptation.shift.Shift`.

    `by` says whose features. Where it could not be measured `advice` says why, and all else is
    None.
    """

    frechet: Amount | None = None
    within_source: Amount | None = None
    ratio: Positive | None = None
    low: Amount | None = None
    high: Amount | None = None
    cloud: Count | None = None
    images: tuple[Count, Count] | None = None
    threshold: Positive | None = None
    advice: str
    by: str = ""


class Candidate(Result, frozen=True, kw_only=True):
    """What a training with some settings is worth on the source's images that were set aside.

    `ap50` by area there, `distance` the ratio of Fréchet distances of the target, where that is
    what decides.
    """

    ap50: MeanShare | None
    distance: Positive | None = None


class Tried(Result, frozen=True, kw_only=True):
    """A candidate by its recipe and settings, and whether it was chosen."""

    recipe: str
    settings: dict[str, Amount]
    ap50: MeanShare | None
    distance: Positive | None
    chosen: bool


class Choice(Result, frozen=True, kw_only=True):
    """All candidates, and AP50 of as many plain steps, on `images` of the source.

    `within` says whether all that was chosen costs no more than the `tolerance`; where the rule had
    nothing to go by, no precision to lose or no distance, it does not count as such.
    """

    plain: MeanShare | None
    tolerance: MeanShare
    images: Count
    tried: list[Tried]
    within: bool


class Summary(Result, frozen=True, kw_only=True):
    """The content of `summary.json`."""

    recipes: Annotated[dict[str, Recipe], Meta(min_length=1)]
    shift: ShiftResult
    choice: Choice | UnsetType = UNSET
    data: dict[str, str | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


Redrawn = Annotated[list[MeanShare], Meta(max_length=10_000)]
"""AP50 by area on samples of the pictures, the same for all trainings."""


class Trained(Result, frozen=True, kw_only=True):
    """The result of one training."""

    curve: list[tuple[Count, Real]]
    steps: Count
    source: DetectorEvaluation
    robust_source_ap50: MeanShare | None
    target: DetectorEvaluation
    robust_target_ap50: MeanShare | None
    distance: Positive | None = None
    told: Told | None = None
    one_step_ap50: MeanShare | None = None
    redrawn_source: Redrawn = field(default_factory=list)
    redrawn_target: Redrawn = field(default_factory=list)


@dataclass(frozen=True)
class Adapted:
    """Everything that is drawn; `measured` is None where the shift is not."""

    recipes: Mapping[str, Recipe]
    advice: str
    by: str
    measured: Shift | None
    notes: Sequence[str]
    choice: Choice | UnsetType = UNSET


SURVIVED = 0.05  # AP50 on the source that adversarial training may cost without a word


def cautions(adapted: Adapted) -> list[str]:
    """Return lines on settings that cost more on the source than they should."""
    lines = []
    if adapted.choice is not UNSET and not adapted.choice.within:
        smallest = min(each.ap50 or 0.0 for each in adapted.choice.tried if each.chosen)
        lines.append(
            "caution: not all could be chosen: nothing is within the tolerance, or nothing told "
            "settings apart, and the smallest were taken; AP50 with them is "
            f"{100 * smallest:.1f} % and more on the source's images set aside, after as many "
            f"plain steps {100 * (adapted.choice.plain or 0.0):.1f} %"
        )
    for name, trained in adapted.recipes.items():
        if recipe(name).adversary is None or trained.gain is UNSET:
            continue
        lost = trained.gain.source.value
        if lost is not None and lost < -SURVIVED:
            lines.append(
                f"caution: {name} costs {-100 * lost:.1f} points of AP50 on the source's own test "
                f"images against {trained.gain.over}: eps is more than they survive; try a smaller "
                "one, or several with --choose"
            )
    return lines


def summary_of(folder: RunFolder) -> Adapted:
    """Return the summary of a finished adaptation.

    Raises `RunError`, naming the file and the entry, where that was edited so that it cannot be
    drawn.
    """
    summary = read_summary(folder, Summary)
    where, recipes = str(folder.file("summary.json")), summary.recipes
    classes = list(next(iter(recipes.values())).target.classes)
    if not classes:
        raise RunError(f"{where}: recipes: no class on the target")
    for name, trained in recipes.items():
        entry = f"{where}: recipes.{printable(name)}"
        try:
            recipe(name)
        except ConfigError as error:
            raise RunError(f"{where}: recipes: {error}") from error
        if list(trained.target.classes) != classes:
            raise RunError(f"{entry}.target.classes: not those of the first recipe")
        if trained.gain is not UNSET:
            over = trained.gain.over
            if over not in recipes:
                raise RunError(f"{entry}.gain.over: {shown(over)} is none of the recipes")
            pair = (trained.by_seed, recipes[over].by_seed)
            check_alike(*pair, f"{entry}.by_seed", f"trainings of it and of '{over}'")
    measured, distance = None, summary.shift
    if distance.ratio is not None:
        measured = Shift.from_json(distance.to_json(), f"{where}: shift")
    return Adapted(recipes, distance.advice, distance.by, measured, summary.notes, summary.choice)
