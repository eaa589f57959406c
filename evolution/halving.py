"""Asynchronous successive halving: which candidates are promoted to a longer training, and when.

After Li et al. 2020 (asynchronous successive halving), with several objectives: the best of a rung
are those that the fewest others of it dominate, and of equals the most isolated ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from evolution.genotype import Candidate, Trial
from evolution.objectives import Objective, fitness_of
from evolution.surrogate import forecast
from robustkit.errors import ConfigError

Floats = NDArray[np.float64]

_FEWEST_KNOWN = 6  # candidates on the last rung without which nothing is forecast


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

    With `forecast`, the objectives of the last rung, the best are those whose numbers there are
    predicted to be best, once a few candidates have got there: by a line through what these had
    before, and genes for what departs from it.
    """

    def __init__(
        self,
        objectives: Sequence[Sequence[Objective]],
        rate: int,
        *,
        forecast: Sequence[Objective] = (),
    ) -> None:
        self._rungs = [_Rung(tuple(rung_objectives)) for rung_objectives in objectives]
        self._rate = rate
        self._forecast = tuple(forecast)
        self._last: dict[int, tuple[float, ...]] = {}

    def tell(self, trial: Trial) -> None:
        """Take in a trial that has ended on its rung, 0 being the lowest."""
        if trial.rung < len(self._rungs):  # on the last one nothing follows
            self._rungs[trial.rung].add(trial)
        elif self._forecast:
            values = fitness_of(trial.values if trial.outcome == "Ok" else None, self._forecast)
            if values is not None:
                self._last[trial.candidate.number] = values

    def promote(self) -> tuple[Candidate, int] | None:
        """Return a candidate to be promoted and its new rung, from the highest rung that has one.

        None where there is none for now.
        """
        for number in reversed(range(len(self._rungs))):
            candidate = self._rungs[number].promote(self._rate, self._forecast, self._last)
            if candidate is not None:
                return candidate, number + 1
        return None


class _Rung:
    """The candidates that have ended on one rung; adding one costs a pass over those before it."""

    def __init__(self, objectives: tuple[Objective, ...]) -> None:
        self._objectives = objectives
        self._ended = self._promoted = 0
        self._candidates: list[Candidate] = []
        self._values: list[tuple[float, ...]] = []
        self._scores = np.empty((0, len(objectives)))  # larger is better
        self._violations = np.empty(0)
        self._dominators = np.empty(0, dtype=np.int64)
        self._waiting = np.empty(0, dtype=bool)

    def add(self, trial: Trial) -> None:
        self._ended += 1
        values = fitness_of(trial.values if trial.outcome == "Ok" else None, self._objectives)
        if values is None:
            return
        [score], [violation] = _ranked_by(np.array([values]), self._objectives)
        over = _dominates(self._scores, self._violations, score, violation)
        under = _dominates(-self._scores, -self._violations, -score, -violation)
        self._dominators = np.append(self._dominators + under, int(over.sum()))
        self._scores = np.vstack([self._scores, score])
        self._violations = np.append(self._violations, violation)
        self._waiting = np.append(self._waiting, True)
        self._candidates.append(trial.candidate)
        self._values.append(values)

    def promote(
        self,
        rate: int,
        objectives: tuple[Objective, ...],
        last: Mapping[int, tuple[float, ...]],
    ) -> Candidate | None:
        """Return the best of those waiting, if one may be promoted.

        Once enough are known on the `last` rung, whose values are in the order of `objectives`,
        the best are those that are predicted to be so there.
        """
        waiting = np.flatnonzero(self._waiting)
        if self._promoted >= self._ended // rate or not len(waiting):
            return None
        scores, dominators = self._scores, self._dominators
        known = [place for place, each in enumerate(self._candidates) if each.number in last]
        if len(known) >= _FEWEST_KNOWN:
            scores, dominators = self._predicted(known, objectives, last)
        fewest = dominators[waiting].min()
        equals = np.flatnonzero(dominators == fewest)
        isolation = _crowding_distance(scores[equals])
        isolation[~self._waiting[equals]] = -1
        best = int(equals[int(isolation.argmax())])  # of equals again, the first to end
        self._waiting[best] = False
        self._promoted += 1
        return self._candidates[best]

    def _predicted(
        self,
        known: Sequence[int],
        objectives: tuple[Objective, ...],
        last: Mapping[int, tuple[float, ...]],
    ) -> tuple[Floats, NDArray[np.int64]]:
        """Return scores on the last rung, measured or predicted, and how many dominate each."""
        measured = np.array([last[self._candidates[index].number] for index in known])
        genotypes = [each.genotype for each in self._candidates]
        predicted = forecast(genotypes, np.array(self._values), known, measured)
        scores, violations = _ranked_by(predicted, objectives)
        dominators = [
            int(_dominates(scores, violations, score, violation).sum())
            for score, violation in zip(scores, violations, strict=True)
        ]
        return scores, np.array(dominators)


def _ranked_by(values: Floats, objectives: Sequence[Objective]) -> tuple[Floats, Floats]:
    """Return scores (N,M), larger is better, and violations (N,) of objectives' values (N,M)."""
    scores = values * np.array([objective.sign for objective in objectives])
    violations = [
        sum(each.violation(value) for each, value in zip(objectives, row, strict=True))
        for row in values.tolist()
    ]
    return scores, np.array(violations)


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
