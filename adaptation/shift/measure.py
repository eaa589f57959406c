"""How far a target is from a source, in units of how far the source is from itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adaptation.shift.frechet import frechet
from robustkit.compute import derive_seed
from robustkit.errors import DataError

Floats = NDArray[np.float64]
DRAWS = 200
# Above this ratio adversarial training of the source is advised. Provisional: the published
# threshold is not known, and ours is to be fitted on the rendered styles.
THRESHOLD = 10.0
PAYS, COSTS = "adversarial training is likely to pay", "plain training is likely to do as well"


@dataclass(frozen=True)
class Shift:
    """`frechet` between source and target, `within_source` between halves of the source, both
    squared distances; `ratio` of the two with its interval; `threshold` and `advice`.
    """

    frechet: float
    within_source: float
    ratio: float
    low: float
    high: float
    images: tuple[int, int]
    threshold: float
    advice: str


def measure_shift(
    source: Floats,
    target: Floats,
    *,
    threshold: float = THRESHOLD,
    draws: int = DRAWS,
    seed: int = 0,
) -> Shift:
    """The shift between features (n,d) of the source and (m,d) of the target.

    All three clouds have the same size, half of the source: the distance depends on it. The
    interval is of the ratio over `draws` random halves of both domains (half-sample replication,
    McCarthy 1969): drawing with replacement would repeat images, which makes any two clouds look
    farther apart.
    """
    rng = np.random.default_rng(derive_seed("shift", seed))
    size = min(len(source) // 2, len(target))
    if size < 2:
        raise DataError("a distance between domains needs four source images and two target ones")
    drawn = [_distances(source, target, size, rng) for _ in range(draws)]
    across, within = (float(np.mean(each)) for each in zip(*drawn, strict=True))
    ratios = [a / w for a, w in drawn if w > 0]
    low, high = np.quantile(ratios, [0.025, 0.975]) if ratios else (np.nan, np.nan)
    ratio = across / within if within > 0 else float("inf")
    return Shift(
        frechet=across,
        within_source=within,
        ratio=ratio,
        low=float(low),
        high=float(high),
        images=(len(source), len(target)),
        threshold=threshold,
        advice=PAYS if ratio > threshold else COSTS,
    )


def _distances(
    source: Floats, target: Floats, size: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Distances of one half of the source to as much of the target, and to the other half."""
    order = rng.permutation(len(source))
    first, second = source[order[:size]], source[order[size : 2 * size]]
    other = target[rng.permutation(len(target))[:size]]
    return frechet(first, other), frechet(first, second)
