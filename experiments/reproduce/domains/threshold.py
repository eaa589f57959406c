"""Above which distance a recipe pays."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise


def fitted(points: Sequence[tuple[float, bool]]) -> tuple[float, int]:
    """The threshold that predicts most signs, and how many it predicts.

    `points` are distances and whether there was a gain. Tried is every place halfway, in ratio,
    between two neighbouring distances, and one below and one above all; of equally good ones the
    lowest is taken.
    """
    ratios = sorted({ratio for ratio, _ in points})
    between = [(a * b) ** 0.5 for a, b in pairwise(ratios)]
    tried = [ratios[0] / 2, *between, 2 * ratios[-1]]
    right = [sum((ratio > each) == gained for ratio, gained in points) for each in tried]
    best = max(range(len(tried)), key=right.__getitem__)
    return tried[best], right[best]
