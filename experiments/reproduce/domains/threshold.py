"""Above which distance a recipe pays. Points are distances, and what was gained there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from scipy.stats import spearmanr

Points = Sequence[tuple[float, float]]


def fitted(points: Points) -> tuple[float, int]:
    """The threshold that predicts the signs of most gains, and how many it predicts.

    Tried is every place halfway, in ratio, between two neighbouring distances, and one below and
    one above all; of equally good ones the lowest is taken.
    """
    ratios = sorted({ratio for ratio, _ in points})
    between = [(a * b) ** 0.5 for a, b in pairwise(ratios)]
    tried = [ratios[0] / 2, *between, 2 * ratios[-1]]
    right = [predicted(points, each) for each in tried]
    best = max(range(len(tried)), key=right.__getitem__)
    return tried[best], right[best]


def predicted(points: Points, threshold: float) -> int:
    """Of how many points the threshold tells whether there is a gain."""
    return sum((ratio > threshold) == (gain > 0) for ratio, gain in points)


def left_out(by_seed: Mapping[str, Points]) -> int | None:
    """How many signs are predicted of each seed by the threshold of the others; None for one."""
    if len(by_seed) < 2:
        return None
    right = 0
    for seed, points in by_seed.items():
        others = [each for name, own in by_seed.items() if name != seed for each in own]
        right += predicted(points, fitted(others)[0])
    return right


def correlated(points: Points) -> float:
    """Spearman's correlation of distance and gain; NaN where either is constant."""
    ratios, gains = zip(*points, strict=True)
    if len(set(ratios)) == 1 or len(set(gains)) == 1:
        return math.nan
    return float(spearmanr(ratios, gains).statistic)
