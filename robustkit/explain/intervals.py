"""Means over images with their uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

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
