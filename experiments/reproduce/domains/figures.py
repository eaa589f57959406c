"""Figures of the study of source detectors: precisions, gains and distances, seed by seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adaptation.evaluation import over_seeds
from experiments.reproduce.domains.result import Figures, World

CLAIMED = "adversarial"  # the recipe that the claims are about
TARGETS = ("fog", "watercolor", "comic", "clipart")


def values(of: World, recipe: str, domain: str) -> dict[str, float]:
    """AP50 by area of each seed."""
    domains: Mapping[str, Any] = of["recipes"].get(recipe, {})
    runs: Mapping[str, Figures] = domains.get(domain, {})
    return {seed: figures["ap50_area"] for seed, figures in runs.items()}


def gain(of: World, recipe: str, domain: str, base: str = "longer") -> dict[str, Any]:
    """What a recipe gains over `base` on a domain, seed by seed, with its interval."""
    own, plain = values(of, recipe, domain), values(of, base, domain)
    return over_seeds([own[seed] - plain[seed] for seed in own if seed in plain])


def gains_by_seed(worlds: Mapping[str, World]) -> dict[str, list[tuple[float, float]]]:
    """By seed, of every world and target with both trainings: its distance, and what adversarial
    training gains over `longer`."""
    found: dict[str, list[tuple[float, float]]] = {}
    for of in worlds.values():
        for target in TARGETS:
            own, plain = values(of, CLAIMED, target), values(of, "longer", target)
            for seed in sorted(own.keys() & plain.keys() & of["distances"].keys()):
                distance = of["distances"][seed][target]["ratio"]
                found.setdefault(seed, []).append((distance, own[seed] - plain[seed]))
    return found


def ratio(of: World, target: str) -> float | None:
    """The mean distance of a target over seeds, None without any."""
    ratios = [each[target]["ratio"] for each in of["distances"].values()]
    return sum(ratios) / len(ratios) if ratios else None


def advised(of: World, target: str) -> bool:
    """Whether the mean distance lies above the threshold that the run advised by."""
    distance = ratio(of, target)
    threshold = next(iter(of["distances"].values()))[target]["threshold"]
    return distance is not None and distance > threshold
