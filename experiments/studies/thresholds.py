"""Thresholds on a distance that predict the sign of a gain, and whether the two go together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from scipy.stats import spearmanr

from robustkit.compute import derive_seed
from robustkit.runs.summaries import Cosine, Number, Result, Share
from robustkit.stats import mcnemar

Points = Sequence[tuple[float, float]]
SIGNIFICANT = 0.05


def fitted(points: Points) -> tuple[float, int]:
    """Return the threshold that predicts the signs of most gains, and how many it predicts.

    Tried is every place halfway, in ratio, between two neighbouring distances, and one below and
    one above all; of equally good ones the lowest is taken.
    """
    ratios = sorted({ratio for ratio, _ in points})
    between = [(a * b) ** 0.5 for a, b in pairwise(ratios)]
    tried = [ratios[0] / 2, *between, 2 * ratios[-1]]
    right = [predicted(points, threshold) for threshold in tried]
    best = max(range(len(tried)), key=right.__getitem__)
    return tried[best], right[best]


def predicted(points: Points, threshold: float) -> int:
    """Return for how many points the threshold predicts whether there is a gain."""
    return sum((ratio > threshold) == (gain > 0) for ratio, gain in points)


def left_out(groups: Mapping[str, Points]) -> list[bool]:
    """Return whether the sign of each point is predicted by the threshold of the other groups.

    In the order of the groups; empty for a single one. With a group for each target none has a say
    on itself.
    """
    if len(groups) < 2:
        return []
    right = []
    for name, points in groups.items():
        others = [point for other, of in groups.items() if other != name for point in of]
        threshold = fitted(others)[0]
        right += [bool(predicted([point], threshold)) for point in points]
    return right


def constant_answer(points: Points) -> int:
    """Return for how many points the better of "always" and "never" is right."""
    gained = sum(gain > 0 for _, gain in points)
    return max(gained, len(points) - gained)


def better_than_constant(groups: Mapping[str, Points]) -> bool | None:
    """Return whether thresholds of other groups predict more signs than one answer for all.

    By McNemar's test; None if undecided.
    """
    gained = np.array([gain > 0 for points in groups.values() for _, gain in points])
    by_threshold = np.array(left_out(groups), dtype=np.bool_)
    if not len(by_threshold):
        return None
    by_answer = gained == (gained.mean() >= 0.5)
    if mcnemar(by_threshold, by_answer) >= SIGNIFICANT:
        return None
    return bool(by_threshold.sum() > by_answer.sum())


def correlated(points: Points) -> float:
    """Return Spearman's correlation of distance and gain; NaN where either is constant."""
    ratios, gains = zip(*points, strict=True)
    if len(set(ratios)) == 1 or len(set(gains)) == 1:
        return math.nan
    return float(spearmanr(ratios, gains).statistic)


PERMUTATIONS, RESAMPLES = 9_999, 2_000


class Trend(Result, frozen=True, kw_only=True):
    """Spearman's correlation of distance and gain over n targets.

    A 95 % interval from targets drawn with replacement; `p_value` is of as large a correlation,
    either way, where distances are dealt out at random.
    """

    correlation: Cosine
    low: Cosine
    high: Cosine
    p_value: Share
    n: Number


def trend(points: Points, seed: int = 0) -> Trend | None:
    """Return whether gains grow with distances, a point a target.

    None for fewer than four targets, or where either is constant.
    """
    measured = correlated(points) if len(points) >= 4 else math.nan
    if math.isnan(measured):
        return None
    rng = np.random.default_rng(derive_seed("trend", seed))
    distances, gains = (np.array(values) for values in zip(*points, strict=True))
    dealt = [_correlation(rng.permutation(distances), gains) for _ in range(PERMUTATIONS)]
    as_large = sum(abs(value) >= abs(measured) - 1e-12 for value in dealt)
    drawn = []
    for _ in range(RESAMPLES):
        rows = rng.integers(0, len(gains), len(gains))
        value = _correlation(distances[rows], gains[rows])
        if not math.isnan(value):
            drawn.append(value)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Trend(
        correlation=measured,
        low=float(low),
        high=float(high),
        p_value=(1 + as_large) / (1 + PERMUTATIONS),
        n=len(points),
    )


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return Spearman's correlation of two lists; NaN where either is constant."""
    ranks = [_ranks(values) for values in (first, second)]
    spreads = [each.std() for each in ranks]
    if min(spreads) == 0:
        return math.nan
    centred = [each - each.mean() for each in ranks]
    return float((centred[0] * centred[1]).mean() / (spreads[0] * spreads[1]))


def _ranks(values: np.ndarray) -> np.ndarray:
    """Return the ranks of values, ties sharing their mean."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(values))
