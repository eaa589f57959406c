"""The summary of the study of source detectors."""

from __future__ import annotations

from msgspec import field

from experiments.studies.base import StudySummary
from robustkit.errors import RunError
from robustkit.runs.summaries import (
    MeanShare,
    Positive,
    Result,
    check_has,
    shown,
)
from robustkit.stats import Mean


class Figures(Result, frozen=True, kw_only=True):
    """Of one training on one domain."""

    ap50_area: MeanShare


Seeds = dict[str, Figures]


class Runs(Result, frozen=True, kw_only=True):
    """Of one recipe, by domain and seed; `robust` is AP50 on attacked photographs."""

    photo: Seeds = field(default_factory=dict)
    fog: Seeds = field(default_factory=dict)
    watercolor: Seeds = field(default_factory=dict)
    comic: Seeds = field(default_factory=dict)
    clipart: Seeds = field(default_factory=dict)
    robust: dict[str, MeanShare | None] = field(default_factory=dict)

    def on(self, domain: str) -> Seeds:
        """Return the trainings by seed on one domain."""
        seeds: Seeds = getattr(self, domain)
        return seeds


class Distance(Result, frozen=True, kw_only=True):
    """How far a target is, and above what is advised."""

    ratio: Positive
    threshold: Positive


Distances = dict[str, Distance]
"""Of all targets, as one training sees them."""


class World(Result, frozen=True, kw_only=True):
    """One setting of the study: trainings by recipe, distances by seed."""

    recipes: dict[str, Runs]
    distances: dict[str, Distances]


Worlds = dict[str, World]
"""By name."""


class Gains(Result, frozen=True, kw_only=True):
    """What a recipe gains on the target."""

    target: Mean | None = None


class PairRecipe(Result, frozen=True, kw_only=True):
    """What is read of a recipe of `adapt`."""

    gain: Gains | None = None


class Pair(Result, frozen=True, kw_only=True):
    """What is read of a run of `adapt` on the published pair of domains."""

    recipes: dict[str, PairRecipe]


class Summary(StudySummary, frozen=True, kw_only=True):
    """Rendered worlds, or the published pair."""

    worlds: Worlds = field(default_factory=dict)
    pair: Pair | None = None


class TrainedOn(Result, frozen=True, kw_only=True):
    """What a training gives."""

    domains: dict[str, Figures]
    robust: MeanShare | None


def check(
    summary: Summary,
    where: str,
    worlds: tuple[str, ...],
    recipes: tuple[str, ...],
    targets: tuple[str, ...],
) -> None:
    """Raise `RunError` without any result, for a world that is none of `worlds`, of which the first
    and the last are needed, and where the base or the distance of a training is missing."""
    if summary.pair is not None:
        return
    if not summary.worlds:
        raise RunError(f"{where}: 'worlds' is missing")
    check_has(summary.worlds, (worlds[0], worlds[-1]), f"{where}: worlds")
    for name, each in summary.worlds.items():
        if name not in worlds:
            raise RunError(f"{where}: worlds: {shown(name)} is none of {', '.join(worlds)}")
        for seed, distances in each.distances.items():
            place = f"{where}: worlds.{name}.distances.{seed}"
            check_has(distances, ("photo", *targets), place)
    of = summary.worlds["texture"]
    for recipe in recipes:
        for target in targets:
            own, base = _seeds(of, recipe, target), _seeds(of, "longer", target)
            for seed in own:
                if seed not in base or seed not in of.distances:
                    raise RunError(
                        f"{where}: worlds.texture: the seed {shown(seed)} of {recipe} on {target} "
                        "has no training 'longer', or no distance"
                    )


def _seeds(of: World, recipe: str, target: str) -> Seeds:
    return of.recipes[recipe].on(target) if recipe in of.recipes else {}
