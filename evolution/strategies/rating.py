"""Several objectives summed into one order of merit."""

from __future__ import annotations

from collections.abc import Sequence

from evolution.objectives import Objective
from evolution.pareto import Individual


def rate(scored: Sequence[Individual], objectives: Sequence[Objective]) -> None:
    """Set every individual's `rating` to (-violation, weighted sum); larger is better.

    Accuracies and MACs share no unit, so each objective is first brought to 0 (the worst of
    `scored`) … 1 (the best): weights then compare what networks differ by.
    """
    sums = [0.0] * len(scored)
    for place, objective in enumerate(objectives):
        merits = [objective.sign * each.fitness.values[place] for each in scored]
        low, high = min(merits, default=0.0), max(merits, default=0.0)
        span = (high - low) or 1.0
        for index, merit in enumerate(merits):
            sums[index] += objective.weight * (merit - low) / span
    for each, total in zip(scored, sums, strict=True):
        each.rating = (-each.fitness.violation, total)
