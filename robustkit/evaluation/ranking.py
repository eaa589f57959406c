"""Who is better than whom, on the same images, and which ranks that leaves open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robustkit.stats import Mean, mean_over_images, wilson

LEVEL = 0.05


@dataclass(frozen=True)
class Ranked:
    """A mean over images with its 95 % interval, and the ranks that the others leave it.

    `best` counts who is better beyond doubt, plus one; `worst` leaves out who is worse.
    """

    score: Mean
    best: int
    worst: int


def ranked(outcomes: Mapping[str, NDArray[np.float64]], seed: int = 0) -> dict[str, Ranked]:
    """Return every competitor's mean and ranks; `outcomes` (n,) are of the same n images, in [0,1].

    Two differ beyond doubt where Student's test of their differences, image by image, says so at
    5 % for all pairs together (Holm 1979). Those of whom nobody is better share the first rank.
    """
    names = list(outcomes)
    better = np.zeros((len(names), len(names)), dtype=np.bool_)
    pairs = [(a, b) for a in range(len(names)) for b in range(a + 1, len(names))]
    differences = [outcomes[names[a]] - outcomes[names[b]] for a, b in pairs]
    p_values = [p_of_no_difference(each) for each in differences]
    for number, place in enumerate(np.argsort(p_values, kind="stable")):
        if p_values[place] > LEVEL / (len(pairs) - number):
            break
        a, b = pairs[place]
        first = differences[place].mean() > 0
        better[(a, b) if first else (b, a)] = True
    return {
        name: Ranked(
            score=_score(outcomes[name], seed),
            best=1 + int(better[:, place].sum()),
            worst=len(names) - int(better[place].sum()),
        )
        for place, name in enumerate(names)
    }


def p_of_no_difference(differences: NDArray[np.float64]) -> float:
    """Return the two-sided p of Student's test that the mean of `differences` (n,) is zero.

    Never less than the sign test's would be if all that differ had one sign, 2^(1-k) for k of them:
    four of two hundred images are no evidence, though Student's test says 0.045.
    """
    from scipy.stats import ttest_1samp  # a second of import

    differing = np.count_nonzero(differences)
    if len(differences) < 2 or not differing:
        return 1.0
    floor = float(2.0 ** (1 - differing))
    if not np.ptp(differences):
        return floor
    return max(floor, float(ttest_1samp(differences, 0.0).pvalue))


def _score(outcomes: NDArray[np.float64], seed: int) -> Mean:
    """Return the mean with its bootstrap interval; where all images agree, with Wilson's.

    A bootstrap of equal values has no width, but no success on ten images is not none on others.
    Wilson's is never too narrow: nothing in [0,1] of a given mean varies more than zeros and ones.
    """
    if len(outcomes) < 2 or np.ptp(outcomes):
        return mean_over_images(list(outcomes), seed)
    rate = wilson(float(outcomes.mean()), len(outcomes))
    return Mean(value=rate.value, n=rate.n, low=rate.low, high=rate.high)
