"""Every interval and test: Wilson's, McNemar's, the paired bootstrap, means and their intervals."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

Z95 = 1.959963984540054  # two-sided 95 % quantile of the normal distribution
DRAWS = 2000

# What JSON may hold where an estimate is read from it.
_LARGEST = 3.4028235e38  # of float32: whatever a net can say, and an axis can show
Share = Annotated[float, Meta(ge=0, le=1)]
Points = Annotated[float, Meta(ge=-100, le=100)]
Real = Annotated[float, Meta(ge=-_LARGEST, le=_LARGEST)]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A `value` from `n` observations with its 95 % interval [`low`, `high`].

    All three are None without observations; the interval alone where one says nothing of others.
    `n` is 0 also where a file does not tell it.
    """

    value: float | None = None
    n: int = 0
    low: float | None = None
    high: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the plain values of a summary; `value` has the estimate's own name there."""
        return dict(msgspec.to_builtins(self))


class Rate(Estimate, frozen=True, kw_only=True, rename={"value": "rate"}):
    """The share of `n` images of which something is true; `rate` in JSON."""

    value: Share | None
    n: Count
    low: Share | None
    high: Share | None


class KnownRate(Rate, frozen=True, kw_only=True):
    """The share of one image or more."""

    value: Share
    n: Count
    low: Share
    high: Share

    @classmethod
    def from_rate(cls, rate: Rate) -> KnownRate:
        """Return a rate of one image or more; raises `ValueError` for one of none."""
        if rate.value is None or rate.low is None or rate.high is None:
            raise ValueError("a rate of no image is not known")
        return cls(value=rate.value, n=rate.n, low=rate.low, high=rate.high)


class Mean(Estimate, frozen=True, kw_only=True, rename={"value": "mean"}):
    """The mean of `n` values; `mean` in JSON."""

    value: Real | None
    n: Count = 0
    low: Real | None
    high: Real | None


class Gap(Estimate, frozen=True, kw_only=True, rename={"value": "points"}):
    """100·(first rate - second rate) over the same `n` images, McNemar's p; `points` in JSON."""

    value: Points | None
    n: Count
    low: Points | None
    high: Points | None
    p_value: Share | None


def wilson(rate: float, n: int) -> Rate:
    """Return the 95 % Wilson score interval (Wilson 1927) of a rate in [0,1] seen on n images.

    >>> rate = wilson(0.5, 100)
    >>> round(rate.low, 4), round(rate.high, 4)
    (0.4038, 0.5962)
    >>> wilson(0.0, 20).high < 0.17  # nothing seen is not nothing there
    True
    """
    if n == 0:
        return Rate(value=None, n=0, low=None, high=None)
    spread = Z95**2 / n
    centre = (rate + spread / 2) / (1 + spread)
    half = Z95 * math.sqrt(rate * (1 - rate) / n + spread / (4 * n)) / (1 + spread)
    # At a rate of 0 or 1 the bound is exact; only rounding puts it a hair off.
    low, high = min(max(0.0, centre - half), rate), max(min(1.0, centre + half), rate)
    return Rate(value=rate, n=n, low=low, high=high)


def pooled_rate(hits: NDArray[np.bool_], among: NDArray[np.bool_]) -> Rate:
    """Return the share of `hits` among `among`, both bool (S,N): S trainings on the same N images.

    The rate averages over trainings; n, and with it the interval, counts *images*: the mean number
    per training, because the same image seen by three trainings is not three images.

    >>> hits = np.array([[True, False], [True, True]])
    >>> pooled = pooled_rate(hits, np.ones((2, 2), dtype=bool))
    >>> pooled.value, pooled.n  # two images, however many trainings saw them
    (0.75, 2)
    """
    counted = int(among.sum())
    if counted == 0:
        return Rate(value=None, n=0, low=None, high=None)
    n = max(1, round(counted / len(among)))
    return wilson(float((hits & among).sum() / counted), n)


def mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Return the exact two-sided McNemar p-value of two paired outcomes bool (N,) (McNemar 1947).

    >>> first, second = np.arange(8) < 6, np.arange(8) < 0
    >>> mcnemar(first, second)  # 6 of 6 one way: 2 / 2**6
    0.03125
    """
    from scipy.stats import binomtest  # a second of import that workers need not spend

    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    if only_first + only_second == 0:
        return 1.0
    return float(binomtest(only_first, only_first + only_second, 0.5).pvalue)


def paired_gap(
    first: NDArray[np.bool_], second: NDArray[np.bool_], *, seed: int, draws: int = 2000
) -> Gap:
    """Return the gap between two groups of trainings, bool (S,N) and (T,N), on the same N images.

    The interval is a percentile bootstrap over images and trainings together: each draw resamples
    the images once for both groups, and each group's trainings. The p-value is the largest of the
    exact McNemar tests over pairs of trainings, which no lucky pair can make small.
    """
    images = first.shape[1]
    if images == 0:
        return Gap(value=None, n=0, low=None, high=None, p_value=None)
    rng = np.random.default_rng(seed)
    gaps = np.empty(draws)
    for draw in range(draws):
        weights = rng.multinomial(images, np.full(images, 1 / images)) / images
        gaps[draw] = _mean(first, weights, rng) - _mean(second, weights, rng)
    # Scaled back, a draw of few trainings may lie beyond what a difference of rates can be.
    low, high = np.quantile(gaps.clip(-1.0, 1.0), [0.025, 0.975])
    p_value = max(mcnemar(a, b) for a in first for b in second)
    points = float(first.mean() - second.mean())
    return Gap(
        value=100 * points,
        n=images,
        low=100 * float(low),
        high=100 * float(high),
        p_value=p_value,
    )


def _mean(
    group: NDArray[np.bool_], weights: NDArray[np.float64], rng: np.random.Generator
) -> float:
    """Return a group's rate with images weighted and its S trainings resampled.

    Resampling S trainings with replacement spreads their mean by √((S-1)/S) of what S trainings
    tell about it; with three that is a fifth too little, so the spread is scaled back.
    """
    rates = group @ weights
    centre = float(rates.mean())
    drawn = float(rates[rng.integers(len(rates), size=len(rates))].mean())
    return centre + (drawn - centre) * math.sqrt(len(rates) / max(len(rates) - 1, 1))


class MatchedGap(NamedTuple):
    """Two groups' rates over the images that a training of each gets right, and their difference.

    Means over pairs of trainings; n counts the images of a pair, on average.
    """

    gap: Gap
    first: Rate
    second: Rate


class Outcomes(NamedTuple):
    """A group of S trainings on N images: `right` on the clean image bool (S,N), and `wrong` (S,N)
    on what is made of it: bool, or shares in [0,1] over several attacks."""

    right: NDArray[np.bool_]
    wrong: NDArray[Any]


def matched_gap(
    first: Outcomes,
    second: Outcomes,
    *,
    among: NDArray[np.bool_],
    seed: int,
    draws: int = DRAWS,
) -> MatchedGap:
    """Return the gap between two groups, each pair of trainings over the images that both get right
    `among` bool (N,); pairs without such an image are left out.

    The interval is a percentile bootstrap over images and trainings together, as in `paired_gap`.
    The p-value is the largest of McNemar's over pairs; where `wrong` is not bool, the bootstrap's
    own, twice the share of draws beyond zero.
    """
    masks = among & first.right[:, None] & second.right[None]
    whole = masks.any(axis=2)
    if not whole.any():
        nothing = wilson(0.0, 0)
        gap = Gap(value=None, n=0, low=None, high=None, p_value=None)
        return MatchedGap(gap, nothing, nothing)
    shape, images = masks.shape[:2], masks.shape[2]
    wrong = (
        np.broadcast_to(first.wrong[:, None], masks.shape),
        np.broadcast_to(second.wrong[None], masks.shape),
    )
    counted = masks.reshape(-1, images).astype(np.float64)
    sums = [(counted * each.reshape(-1, images)) for each in wrong]
    rng = np.random.default_rng(seed)

    def rates(weights: NDArray[Any]) -> list[NDArray[np.float64]]:
        """Return both rates of every pair (…,S,T), NaN for those without an image."""
        size = weights @ counted.T
        with np.errstate(invalid="ignore", divide="ignore"):
            return [(weights @ each.T / size).reshape(*weights.shape[:-1], *shape) for each in sums]

    seen = [np.nanmean(each) for each in rates(np.ones(images))]
    gaps = np.empty(draws)
    for start in range(0, draws, 100):
        size = min(100, draws - start)
        weights = rng.multinomial(images, np.full(images, 1 / images), size=size)
        one, other = rates(weights.astype(np.float64))
        gaps[start : start + size] = _redrawn(one - other, rng)
    gaps = gaps[~np.isnan(gaps)].clip(-1.0, 1.0)
    low, high = np.quantile(gaps, [0.025, 0.975])
    n = max(1, round(float(counted.sum(axis=1)[whole.reshape(-1)].mean())))
    gap = Gap(
        value=100 * float(seen[0] - seen[1]),
        n=n,
        low=100 * float(low),
        high=100 * float(high),
        p_value=_largest_p(masks, wrong) if wrong[0].dtype == np.bool_ else _beyond_zero(gaps),
    )
    return MatchedGap(gap, wilson(float(seen[0]), n), wilson(float(seen[1]), n))


def _redrawn(gaps: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the mean of each draw's gaps (draws,S,T) with both groups' trainings resampled.

    The spread of either is scaled back as in `_mean`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a draw may have no image of a training
        centre: NDArray[np.float64] = np.nanmean(gaps, axis=(1, 2))
        moved = centre.copy()
        for axis in (1, 2):
            means = np.nanmean(gaps, axis=3 - axis)
            count = means.shape[1]
            chosen = rng.integers(count, size=means.shape)
            drawn = np.nanmean(np.take_along_axis(means, chosen, axis=1), axis=1)
            moved += (drawn - centre) * math.sqrt(count / max(count - 1, 1))
    return moved


def _beyond_zero(gaps: NDArray[np.float64]) -> float:
    """Return the two-sided bootstrap p-value of a difference, at least one draw's share."""
    share = 2 * min(float((gaps <= 0).mean()), float((gaps >= 0).mean()))
    return min(1.0, max(share, 1 / len(gaps)))


def _largest_p(masks: NDArray[np.bool_], wrong: Sequence[NDArray[Any]]) -> float:
    pairs = [pair for pair in np.ndindex(*masks.shape[:2]) if masks[pair].any()]
    return max(mcnemar(wrong[0][p][masks[p]], wrong[1][p][masks[p]]) for p in pairs)


def mean_over_images(values: Sequence[float], seed: int = 0) -> Mean:
    """Return the mean of `values`, one an image, and its 95 % percentile bootstrap interval.

    A single value has no interval: it says nothing of other images.
    """
    known = np.asarray(values, dtype=np.float64)
    if len(known) < 2:
        return _without_interval(known)
    drawn = np.random.default_rng(seed).choice(known, size=(DRAWS, len(known))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Mean(value=float(known.mean()), n=len(known), low=float(low), high=float(high))


def mean_over_trainings(values: Sequence[float | None]) -> Mean:
    """Return the mean of `values`, one a training, and Student's 95 % interval of it.

    Trainings without a value are left out; a single one has no interval.

    >>> mean = mean_over_trainings([0.5, 0.6, 0.7])
    >>> round(mean.low, 3), round(mean.value, 3), round(mean.high, 3)
    (0.352, 0.6, 0.848)
    """
    from scipy.stats import t  # a second of import that workers need not spend

    known = np.array([value for value in values if value is not None], dtype=np.float64)
    if len(known) < 2:
        return _without_interval(known)
    mean = float(known.mean())
    half = float(t.ppf(0.975, len(known) - 1) * known.std(ddof=1) / len(known) ** 0.5)
    return Mean(value=mean, n=len(known), low=mean - half, high=mean + half)


def mean_over_both(values: Sequence[Sequence[float | None]]) -> Mean:
    """Return the mean of `values[i][j]`, of searches i and trainings j of what they are compared
    with, and a 95 % interval over both; `n` is the number of searches.

    The variances of the rows' and of the columns' means add up, each over its own number (which
    counts what a cell has of its own twice, to be safe); Student's degrees of freedom are Welch's,
    at most those of the longer side. With one column it is `mean_over_trainings`.

    >>> mean = mean_over_both([[1.0, 3.0], [2.0, 4.0], [3.0, 5.0]])
    >>> round(mean.low, 2), mean.value, round(mean.high, 2)
    (-2.98, 3.0, 8.98)
    """
    from scipy.stats import t

    table = np.array([[np.nan if v is None else v for v in row] for row in values])
    table = table[~np.isnan(table).all(axis=1)] if table.size else table.reshape(0, 0)
    table = table[:, ~np.isnan(table).all(axis=0)]
    means = [np.nanmean(table, axis=axis) for axis in (1, 0)] if table.size else []
    if not means or len(means[0]) < 2 or len(means[1]) < 2:
        return mean_over_trainings(list(means[0]) if means else [])
    squares = [float(each.var(ddof=1)) / len(each) for each in means]
    mean = float(np.nanmean(table))
    if sum(squares) == 0:
        return Mean(value=mean, n=len(table), low=mean, high=mean)
    shares = [part**2 / (len(each) - 1) for part, each in zip(squares, means, strict=True)]
    freedom = min(sum(squares) ** 2 / sum(shares), max(len(each) for each in means) - 1)
    half = float(t.ppf(0.975, freedom) * sum(squares) ** 0.5)
    return Mean(value=mean, n=len(table), low=mean - half, high=mean + half)


def mean_over_pictures_too(
    values: Sequence[float | None], redrawn: Sequence[Sequence[float]]
) -> Mean:
    """Return the mean of `values`, one a training, and a 95 % interval over trainings and pictures.

    `redrawn[i][b]` is what training i has on sample b, with replacement, of the pictures: the same
    samples for all trainings. The half-width is the root of the sum of squares of Student's over
    trainings and of the normal one over samples of their mean. A single training has no interval.

    >>> both = mean_over_pictures_too([0.5, 0.6, 0.7], [[0.4, 0.6], [0.5, 0.7], [0.6, 0.8]])
    >>> round(both.low, 3), round(both.value, 3), round(both.high, 3)
    (0.228, 0.6, 0.972)
    """
    from scipy.stats import norm

    over_trainings = mean_over_trainings(values)
    mean, low = over_trainings.value, over_trainings.low
    if mean is None or low is None or not redrawn or not redrawn[0]:
        return over_trainings
    over_pictures = norm.ppf(0.975) * np.std(np.mean(np.array(redrawn), axis=0), ddof=1)
    half = float(np.hypot(mean - low, over_pictures))
    return Mean(value=mean, n=over_trainings.n, low=mean - half, high=mean + half)


def _without_interval(known: NDArray[np.float64]) -> Mean:
    value = float(known.mean()) if len(known) else None
    return Mean(value=value, n=len(known), low=None, high=None)
