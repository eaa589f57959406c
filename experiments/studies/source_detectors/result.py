"""The summary of the study of source detectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

from robustkit.errors import RunError
from robustkit.runs.summaries import Interval, MeanShare, Positive, check_has, shown


class Figures(TypedDict):
    """Of one training on one domain."""

    ap50_area: MeanShare


Seeds = dict[str, Figures]


class Runs(TypedDict):
    """Of one recipe, by domain and seed; `robust` is AP50 on attacked photographs."""

    photo: NotRequired[Seeds]
    fog: NotRequired[Seeds]
    watercolor: NotRequired[Seeds]
    comic: NotRequired[Seeds]
    clipart: NotRequired[Seeds]
    robust: NotRequired[dict[str, MeanShare | None]]


class Distance(TypedDict):
    """How far a target is, and above what is advised."""

    ratio: Positive
    threshold: Positive


Distances = dict[str, Distance]
"""Of all targets, as one training sees them."""


class World(TypedDict):
    """One setting of the study: trainings by recipe, distances by seed."""

    recipes: dict[str, Runs]
    distances: dict[str, Distances]


Worlds = dict[str, World]
"""By name."""


class Gains(TypedDict):
    """What a recipe gains on the target."""

    target: NotRequired[Interval]


class PairRecipe(TypedDict):
    """What is read of a recipe of `adapt`."""

    gain: NotRequired[Gains]


class Pair(TypedDict):
    """What is read of a run of `adapt` on the published pair of domains."""

    recipes: dict[str, PairRecipe]


class Summary(TypedDict):
    """Rendered worlds, or the published pair."""

    study: str
    worlds: NotRequired[Worlds]
    pair: NotRequired[Pair]


class TrainedOn(TypedDict):
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
    if "pair" in summary:
        return
    if "worlds" not in summary:
        raise RunError(f"{where}: 'worlds' is missing")
    check_has(summary["worlds"], (worlds[0], worlds[-1]), f"{where}: worlds")
    for name, each in summary["worlds"].items():
        if name not in worlds:
            raise RunError(f"{where}: worlds: {shown(name)} is none of {', '.join(worlds)}")
        for seed, distances in each["distances"].items():
            place = f"{where}: worlds.{name}.distances.{seed}"
            check_has(distances, ("photo", *targets), place)
    of = summary["worlds"]["texture"]
    for recipe in recipes:
        for target in targets:
            own, base = _seeds(of, recipe, target), _seeds(of, "longer", target)
            for seed in own:
                if seed not in base or seed not in of["distances"]:
                    raise RunError(
                        f"{where}: worlds.texture: the seed {shown(seed)} of {recipe} on {target} "
                        "has no training 'longer', or no distance"
                    )


def _seeds(of: World, recipe: str, target: str) -> Mapping[str, Any]:
    runs: Mapping[str, Any] = of["recipes"].get(recipe, {})
    found: Mapping[str, Any] = runs.get(target, {})
    return found
