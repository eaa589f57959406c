"""Rates with their uncertainty: Wilson's interval, McNemar's test, a paired bootstrap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Z95 = 1.959963984540054  # two-sided 95 % quantile of the normal distribution


@dataclass(frozen=True)
class Rate:
    """`rate` of `n` images with its 95 % interval [`low`, `high`]; all None where n is 0."""

    rate: float | None
    n: int
    low: float | None
    high: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a summary."""
        return asdict(self)


def wilson(rate: float, n: int) -> Rate:
    """The 95 % Wilson score interval (Wilson 1927) of a rate in [0,1] seen on n images.

    >>> told = wilson(0.5, 100)
    >>> round(told.low, 4), round(told.high, 4)
    (0.4038, 0.5962)
    >>> wilson(0.0, 20).high < 0.17  # nothing seen is not nothing there
    True
    """
    if n == 0:
        return Rate(None, 0, None, None)
    spread = Z95**2 / n
    centre = (rate + spread / 2) / (1 + spread)
    half = Z95 * math.sqrt(rate * (1 - rate) / n + spread / (4 * n)) / (1 + spread)
    # At a rate of 0 or 1 the bound is exact; only rounding puts it a hair off.
    return Rate(rate, n, min(max(0.0, centre - half), rate), max(min(1.0, centre + half), rate))


def pooled_rate(hits: NDArray[np.bool_], among: NDArray[np.bool_]) -> Rate:
    """The share of `hits` among `among`, both bool (S,N): S trainings seen on the same N images.

    The rate averages over trainings; n, and with it the interval, counts *images*: the mean number
    per training, because the same image seen by three trainings is not three images.

    >>> hits = np.array([[True, False], [True, True]])
    >>> pooled = pooled_rate(hits, np.ones((2, 2), dtype=bool))
    >>> pooled.rate, pooled.n  # two images, however many trainings saw them
    (0.75, 2)
    """
    counted = int(among.sum())
    if counted == 0:
        return Rate(None, 0, None, None)
    n = max(1, round(counted / len(among)))
    return wilson(float((hits & among).sum() / counted), n)


def mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Exact two-sided McNemar p-value of two paired outcomes bool (N,) (McNemar 1947).

    >>> first, second = np.arange(8) < 6, np.arange(8) < 0
    >>> mcnemar(first, second)  # 6 of 6 one way: 2 / 2**6
    0.03125
    """
    from scipy.stats import binomtest  # a second of import that workers need not spend

    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    if only_first + only_second == 0:
        return 1.0
    return float(binomtest(only_first, only_first + only_second, 0.5).pvalue)


@dataclass(frozen=True)
class Gap:
    """`points` = 100·(first rate - second rate) with a 95 % interval, and McNemar's p-value."""

    points: float | None
    low: float | None
    high: float | None
    p_value: float | None
    n: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a summary."""
        return asdict(self)


def paired_gap(
    first: NDArray[np.bool_], second: NDArray[np.bool_], *, seed: int, draws: int = 2000
) -> Gap:
    """The gap between two groups of trainings, bool (S,N) and (T,N), on the same N images.

    The interval is a percentile bootstrap over images and trainings together: each draw resamples
    the images once for both groups, and each group's trainings. The p-value is the largest of the
    exact McNemar tests over pairs of trainings, which no lucky pair can make small.
    """
    images = first.shape[1]
    if images == 0:
        return Gap(None, None, None, None, 0)
    rng = np.random.default_rng(seed)
    gaps = np.empty(draws)
    for draw in range(draws):
        weights = rng.multinomial(images, np.full(images, 1 / images)) / images
        gaps[draw] = _mean(first, weights, rng) - _mean(second, weights, rng)
    # Scaled back, a draw of few trainings may lie beyond what a difference of rates can be.
    low, high = np.quantile(gaps.clip(-1.0, 1.0), [0.025, 0.975])
    p_value = max(mcnemar(a, b) for a in first for b in second)
    points = float(first.mean() - second.mean())
    return Gap(100 * points, 100 * float(low), 100 * float(high), p_value, images)


def _mean(
    group: NDArray[np.bool_], weights: NDArray[np.float64], rng: np.random.Generator
) -> float:
    """A group's rate with images weighted and its S trainings resampled.

    Resampling S trainings with replacement spreads their mean by √((S-1)/S) of what S trainings
    tell about it; with three that is a fifth too little, so the spread is scaled back.
    """
    rates = group @ weights
    centre = float(rates.mean())
    drawn = float(rates[rng.integers(len(rates), size=len(rates))].mean())
    return centre + (drawn - centre) * math.sqrt(len(rates) / max(len(rates) - 1, 1))


DRAWS = 2000


def mean_interval(values: Sequence[float], seed: int = 0) -> dict[str, Any]:
    """{mean, low, high, n}: the mean and its 95 % percentile bootstrap interval over `values`.

    None for all three without values, and for the interval of a single one: it says nothing of
    other images.
    """
    known = np.asarray(values, dtype=np.float64)
    if not len(known):
        return {"mean": None, "low": None, "high": None, "n": 0}
    mean = float(known.mean())
    if len(known) == 1:
        return {"mean": mean, "low": None, "high": None, "n": 1}
    drawn = np.random.default_rng(seed).choice(known, size=(DRAWS, len(known))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"mean": mean, "low": float(low), "high": float(high), "n": len(known)}


def over_seeds(values: Sequence[float | None]) -> dict[str, Any]:
    """{mean, low, high, n} of one value a training: Student's 95 % interval of the mean.

    No interval for a single training, nothing without any that has a value.

    >>> told = over_seeds([0.5, 0.6, 0.7])
    >>> round(told["low"], 3), round(told["mean"], 3), round(told["high"], 3)
    (0.352, 0.6, 0.848)
    """
    known = np.array([value for value in values if value is not None], dtype=np.float64)
    if not len(known):
        return {"mean": None, "low": None, "high": None, "n": 0}
    mean = float(known.mean())
    if len(known) == 1:
        return {"mean": mean, "low": None, "high": None, "n": 1}
    half = float(stats.t.ppf(0.975, len(known) - 1) * known.std(ddof=1) / len(known) ** 0.5)
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": len(known)}
