"""A surrogate model: predict a network's objectives from its genes and the trials so far.

A few dozen trials say little about a graph, but much about the average influence of kinds, widths
and activations. That is enough to choose which of several possible children is worth training;
without it a small budget is spent on steps smaller than the noise of a short training.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from evolution.genes import gene_features
from evolution.genotype import Genotype
from evolution.objectives import Individual, Objective

Floats = npt.NDArray[np.float64]

_PENALTIES = np.logspace(-1, 3, 9)
_BEYOND_BOUND = 3.0  # score lost per standard deviation by which a bound is expected to be missed


class Surrogate:
    """Ridge regression of every objective on a network's gene features.

    Features and objectives are standardised. Each objective's penalty is the one with the least
    leave-one-out error, so what the features do not explain is predicted near its mean.
    """

    def __init__(self, known: Sequence[Individual], objectives: Sequence[Objective]) -> None:
        self._objectives = objectives
        features = _features([individual.trial.candidate.genotype for individual in known])
        numbers = np.array([individual.fitness.values for individual in known], dtype=np.float64)
        self._centre, self._scale = features.mean(axis=0), _spread(features)
        self._mean, self._spread = numbers.mean(axis=0), _spread(numbers)
        x = (features - self._centre) / self._scale
        targets = (numbers - self._mean) / self._spread
        self._slopes = np.stack([ridge(x, target) for target in targets.T], axis=1)

    def predict(self, genotypes: Sequence[Genotype]) -> Floats:
        """Return the objectives' predicted values, (genotypes, objectives)."""
        x = (_features(genotypes) - self._centre) / self._scale
        predicted: Floats = x @ self._slopes * self._spread + self._mean
        return predicted

    def scores(self, genotypes: Sequence[Genotype], weights: Sequence[float]) -> Floats:
        """Return a score per genotype, larger is better: the weighted sum of its predictions.

        Objectives count in standard deviations of the known values, and three times that by which
        they are predicted to miss their bounds.
        """
        total = np.zeros(len(genotypes))
        columns = zip(self._objectives, weights, self.predict(genotypes).T, strict=True)
        for (objective, weight, column), spread in zip(columns, self._spread, strict=True):
            total += weight * objective.sign * column / spread
            if objective.bound is not None:
                missed = np.maximum(0.0, objective.sign * (objective.bound - column))
                total -= _BEYOND_BOUND * missed / spread
        return total


def forecast(
    genotypes: Sequence[Genotype], early: Floats, known: Sequence[int], late: Floats
) -> Floats:
    """Return numbers after a long training (genotypes, objectives), by those `early` in it.

    Of the genotypes at the places `known` they are measured, `late` (known, objectives), and
    returned as they are. The others' are on a straight line through these by least squares, plus
    what ridge regression on gene features says of the departures from it.
    """
    features = _features(genotypes)
    x = (features - features[known].mean(axis=0)) / _spread(features[known])
    numbers = np.empty_like(early)
    for column, (before, after) in enumerate(zip(early.T, late.T, strict=True)):
        centre, mean = before[known].mean(), after.mean()
        moved = before[known] - centre
        slope = float(moved @ (after - mean)) / (float(moved @ moved) or 1.0)
        line = mean + slope * (before - centre)
        numbers[:, column] = line + x @ ridge(x[known], after - line[known])
    numbers[known] = late
    return numbers


def ridge(x: Floats, y: Floats) -> Floats:
    """Return ridge slopes of centred `y` (n,) on centred `x` (n, features).

    The penalty is the one whose leave-one-out residuals have the least squared sum; they follow
    from one singular value decomposition without refitting (Golub, Heath and Wahba 1979).
    """
    u, singular, vt = np.linalg.svd(x, full_matrices=False)
    projected = u.T @ y
    best, least = np.zeros(x.shape[1]), np.inf
    for penalty in _PENALTIES:
        shrunk = singular**2 / (singular**2 + penalty)
        leverage = 1 / len(y) + (u**2 * shrunk).sum(axis=1)  # 1/n: the mean was estimated as well
        residuals = (y - (u * shrunk) @ projected) / np.maximum(1 - leverage, 1e-9)
        squared = float((residuals**2).sum())
        if squared < least:
            best, least = vt.T @ (singular / (singular**2 + penalty) * projected), squared
    return best


def _features(genotypes: Sequence[Genotype]) -> Floats:
    return np.array(
        [list(gene_features(genotype).values()) for genotype in genotypes], dtype=np.float64
    )


def _spread(values: Floats) -> Floats:
    spread = values.std(axis=0)
    return np.where(spread > 0, spread, 1.0)
