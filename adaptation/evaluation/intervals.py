"""Means over trainings with their uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats


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
