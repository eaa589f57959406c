"""Which scored candidates are better: dominance under bounds, and the non-dominated front."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from deap import base, tools

from evolution.candidate import Scored
from evolution.objectives import Objective, fitness_of


class Fitness(base.Fitness):  # type: ignore[misc]
    """DEAP's fitness with the objectives' signs for weights, and Deb's constrained domination.

    `violation` is the sum of the bounds' relative violations, 0 for a feasible candidate.
    """

    def __init__(self, values: Sequence[float], objectives: Sequence[Objective]) -> None:
        self.weights = tuple(float(objective.sign) for objective in objectives)
        pairs = zip(objectives, values, strict=True)
        self.violation = sum(objective.violation(value) for objective, value in pairs)
        super().__init__(tuple(values))

    def dominates(self, other: Fitness, obj: slice = slice(None)) -> bool:
        """Whether this one misses its bounds by less or, missing them equally, is Pareto better."""
        if self.violation != other.violation:
            return bool(self.violation < other.violation)
        return bool(super().dominates(other, obj))


@dataclass(eq=False)
class Individual:
    """A successfully scored candidate as DEAP's selection sees it.

    `rating` is its place in an order of merit, for strategies that need one: larger is better.
    """

    scored: Scored
    fitness: Fitness
    rating: tuple[float, float] = (0.0, 0.0)


def individuals(scored: Iterable[Scored], objectives: Sequence[Objective]) -> list[Individual]:
    """Those of `scored` that have a fitness, by candidate number whatever order they came in."""
    able = []
    for each in sorted(scored, key=lambda each: each.candidate.number):
        values = fitness_of(each.values if each.outcome_kind == "Ok" else None, objectives)
        if values is not None:
            able.append(Individual(each, Fitness(values, objectives)))
    return able


def front(scored: Iterable[Scored], objectives: Sequence[Objective]) -> list[Scored]:
    """The candidates no other one dominates, by number; failed ones are never among them.

    With bounds, infeasible candidates are on the front only where no candidate is feasible.

    >>> from evolution import Candidate, Genotype, parse_objectives
    >>> from robustkit.models import Block
    >>> net = Genotype((Block(),))
    >>> told = [
    ...     Scored(Candidate(number, net, (), "sample", 0), "Ok", {"accuracy": a, "macs": m})
    ...     for number, (a, m) in enumerate([(0.9, 9.0), (0.8, 1.0), (0.7, 5.0)])
    ... ]
    >>> best = front(told, parse_objectives("accuracy:max,macs:min"))
    >>> [each.candidate.number for each in best]  # the last is worse than the second in both
    [0, 1]
    """
    able = individuals(scored, objectives)
    if not able:
        return []
    best = tools.sortNondominated(able, len(able), first_front_only=True)[0]
    return sorted((each.scored for each in best), key=lambda each: each.candidate.number)
