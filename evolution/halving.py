"""Asynchronous successive halving: which candidates are promoted to a longer training, and when.

After Li et al. 2020 (asynchronous successive halving), with several objectives: the best of a rung
are those that the fewest others of it dominate, and of equals the most isolated ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evolution.genotype import Candidate, Trial
from evolution.objectives import Objective, fitness_of
from robustkit.errors import ConfigError


def rungs(epochs: int, rate: int) -> tuple[int, ...]:
    """Return the epochs of every rung, ascending: `epochs` at the last, `rate` times fewer before.

    Raises `ConfigError` for a rate below 2, and where `epochs` leave room for one rung alone.

    >>> rungs(epochs=9, rate=3)
    (1, 3, 9)
    """
    if rate < 2:
        raise ConfigError(f"halving must be at least 2, not {rate}")
    if epochs < rate:
        raise ConfigError(
            f"halving by {rate} needs at least {rate} epochs of a trial to divide, not {epochs}"
        )
    descending = [epochs]
    while descending[-1] >= rate:
        descending.append(descending[-1] // rate)
    return tuple(reversed(descending))


class Halving:
    """The rungs of one search and the trials that have ended on them.

    `objectives` are those of each rung but the last, lowest first: what is feasible after one
    epoch is another question than after nine. Of the n trials that have ended on a rung, well or
    not, n // `rate` are promoted: the best of those waiting when there is room. A promotion is
    final, though later candidates may turn out to be better.
    """

    def __init__(self, objectives: Sequence[Sequence[Objective]], rate: int) -> None:
        self._rungs = [_Rung(tuple(rung_objectives)) for rung_objectives in objectives]
        self._rate = rate

    def tell(self, trial: Trial) -> None:
        """Take in a trial that has ended on its rung, 0 being the lowest."""
        if trial.rung < len(self._rungs):  # on the last one nothing follows
            self._rungs[trial.rung].add(trial)

    def promote(self) -> tuple[Candidate, int] | None:
        """Return a candidate to be promoted and its new rung, from the highest rung that has one.

        None where there is none for now.
        """
        for number in reversed(range(len(self._rungs))):
            candidate = self._rungs[number].promote(self._rate)
            if candidate is not None:
                return candidate, number + 1
        return None


class _Rung:
    """The candidates that have ended on one rung; adding one costs a pass over those before it."""

    def __init__(self, objectives: tuple[Objective, ...]) -> None:
        self._objectives = objectives
        self._ended = self._promoted = 0
        self._candidates: list[Candidate] = []
        self._scores = np.empty((0, len(objectives)))  # larger is better
        self._violations = np.empty(0)
        self._dominators = np.empty(0, dtype=np.int64)
        self._waiting = np.empty(0, dtype=bool)

    def add(self, trial: Trial) -> None:
        self._ended += 1
        values = fitness_of(trial.values if trial.outcome == "Ok" else None, self._objectives)
        if values is None:
            return
        pairs = list(zip(self._objectives, values, strict=True))
        score = np.array([objective.sign * value for objective, value in pairs])
        violation = sum(objective.violation(value) for objective, value in pairs)
        over = _dominates(self._scores, self._violations, score, violation)
        under = _dominates(-self._scores, -self._violations, -score, -violation)
        self._dominators = np.append(self._dominators + under, int(over.sum()))
        self._scores = np.vstack([self._scores, score])
        self._violations = np.append(self._violations, violation)
        self._waiting = np.append(self._waiting, True)
        self._candidates.append(trial.candidate)

    def promote(self, rate: int) -> Candidate | None:
        waiting = np.flatnonzero(self._waiting)
        if self._promoted >= self._ended // rate or not len(waiting):
            return None
        fewest = self._dominators[waiting].min()
        equals = np.flatnonzero(self._dominators == fewest)
        isolation = _crowding_distance(self._scores[equals])
        isolation[~self._waiting[equals]] = -1
        best = int(equals[int(isolation.argmax())])  # of equals again, the first to end
        self._waiting[best] = False
        self._promoted += 1
        return self._candidates[best]


def _crowding_distance(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the crowding distance (Deb et al. 2002) of each of `scores` (N,M) among them, (N,)."""
    distance = np.zeros(len(scores))
    for column in scores.T:
        order = np.argsort(column, kind="stable")
        ascending = column[order]
        if (span := ascending[-1] - ascending[0]) > 0:
            distance[order[[0, -1]]] = np.inf
            distance[order[1:-1]] += (ascending[2:] - ascending[:-2]) / span
    return distance


def _dominates(
    scores: NDArray[np.float64],
    violations: NDArray[np.float64],
    score: NDArray[np.float64],
    violation: float,
) -> NDArray[np.bool_]:
    """Return which of `scores` (N,M) dominate `score` (M,) by Deb's constrained domination, (N,).

    With all arguments negated, return which of them it dominates.
    """
    better = (scores >= score).all(axis=1) & (scores > score).any(axis=1)
    dominating: NDArray[np.bool_] = (violations < violation) | ((violations == violation) & better)
    return dominating
