"""Objectives of a search by name, the fitness of a trial in them, and the Pareto front."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from deap import base, tools

from evolution.genotype import Trial
from robustkit.data import ImageSet
from robustkit.errors import ConfigError, did_you_mean
from robustkit.models import Classifier
from robustkit.registry import Registry

DIRECTIONS = ("max", "min")

Measure = Callable[[Classifier, ImageSet], float]
"""A user's own objective: a finite number of a trained net and the validation split."""

# None: every trial measures it anyway.
MEASURES: Registry[Measure | None] = Registry(
    "objective",
    ConfigError,
    dict.fromkeys(("accuracy", "transfer", "macs", "params", "cos_abs", "grad_norm")),
)

_SYNTAX = re.compile(
    r"(?P<name>\w+):(?P<direction>\w+)(?::(?P<weight>[^<>=]+))?(?:(?P<sign>>=|<=)(?P<bound>.+))?"
)


@dataclass(frozen=True)
class Objective:
    """One number of a trial's result that is to be large ("max") or small ("min").

    `weight` counts where objectives are summed into one fitness; Pareto ranking knows no weights.
    A candidate beyond `bound` is infeasible: whatever its other merits, every feasible one is
    better, and of two infeasible ones that which misses by less (the constrained domination of
    Deb et al. 2002). Raises `ConfigError`.
    """

    name: str
    direction: str
    weight: float = 1.0
    bound: float | None = None

    def __post_init__(self) -> None:
        if self.direction not in DIRECTIONS:
            hint = did_you_mean(self.direction, DIRECTIONS)
            raise ConfigError(
                f"objective '{self.name}': unknown direction '{self.direction}'{hint}"
            )
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise ConfigError(
                f"objective '{self.name}': weight must be a positive number, not {self.weight}"
            )
        if self.bound is not None and not math.isfinite(self.bound):
            raise ConfigError(f"objective '{self.name}': bound must be finite, not {self.bound}")

    @property
    def sign(self) -> int:
        """Return +1 where larger is better, -1 where smaller is."""
        return 1 if self.direction == "max" else -1

    def violation(self, value: float) -> float:
        """Return by how much `value` misses the bound, as a share of it; 0 if it does not."""
        if self.bound is None:
            return 0.0
        return max(0.0, self.sign * (self.bound - value)) / (abs(self.bound) or 1.0)


def parse_objectives(text: str, known: Collection[str] | None = None) -> tuple[Objective, ...]:
    """Return objectives read from `name:direction[:weight][>=bound | <=bound]`, comma-separated.

    For example "accuracy:max:2>=0.6,transfer:min,macs:min<=2e7". Raises `ConfigError` for what
    cannot be read, for a name given twice, and, where `known` names are given, for any other.

    >>> [each.name for each in parse_objectives("accuracy:max:2>=0.6,macs:min")]
    ['accuracy', 'macs']
    >>> parse_objectives("accuracy:max<=0.6")
    Traceback (most recent call last):
    robustkit.errors.ConfigError: objective 'accuracy': a bound here is >=, in 'accuracy:max<=0.6'
    """
    objectives = tuple(_parse(part.strip()) for part in text.split(","))
    names = [objective.name for objective in objectives]
    for name in names:
        if known is not None and name not in known:
            raise ConfigError(f"objectives: unknown name '{name}'{did_you_mean(name, known)}")
        if names.count(name) > 1:
            raise ConfigError(f"objectives: '{name}' is given twice")
    return objectives


def bounded_below(objectives: Iterable[Objective], accuracy: float) -> tuple[Objective, ...]:
    """Return the objectives with `accuracy` (in [0,1], 0 if it is less) for the accuracy's bound.

    A bound that the objectives state themselves stays.

    >>> [each.bound for each in bounded_below(parse_objectives("accuracy:max,macs:min"), 0.5)]
    [0.5, None]
    """
    return tuple(
        replace(each, bound=max(0.0, accuracy))
        if each.name == "accuracy" and each.bound is None
        else each
        for each in objectives
    )


def own_measures(objectives: Sequence[Objective]) -> dict[str, Measure]:
    """Return the measures of those objectives that the user registered, ordered by name."""
    named = {objective.name: MEASURES.get(objective.name) for objective in objectives}
    return {name: measure for name, measure in sorted(named.items()) if measure is not None}


def fitness_of(
    values: Mapping[str, float] | None, objectives: Sequence[Objective]
) -> tuple[float, ...] | None:
    """Return the objectives' numbers among `values`; None where the trial has failed.

    A trial without values has failed, and so has one with a NaN or an infinity among them: it has
    no fitness, can never win and is on no front. A missing name is a bug of the evaluation and
    raises `KeyError`.
    """
    if values is None:
        return None
    numbers = tuple(float(values[objective.name]) for objective in objectives)
    return numbers if all(math.isfinite(number) for number in numbers) else None


def _parse(text: str) -> Objective:
    match = _SYNTAX.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"objectives: cannot read '{text}': expected name:max or name:min, with an optional "
            ":weight and >=bound or <=bound, such as accuracy:max>=0.6,transfer:min"
        )
    objective = Objective(match["name"], match["direction"])
    sign = ">=" if objective.sign > 0 else "<="
    if match["sign"] not in (None, sign):
        raise ConfigError(f"objective '{objective.name}': a bound here is {sign}, in '{text}'")
    weight = 1.0 if match["weight"] is None else _number(objective.name, match["weight"])
    bound = None if match["bound"] is None else _number(objective.name, match["bound"])
    return Objective(objective.name, objective.direction, weight, bound)


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"objective '{name}': '{text}' is not a number") from None


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
        """Return whether this one misses its bounds by less or, equal in that, is Pareto better."""
        if self.violation != other.violation:
            return bool(self.violation < other.violation)
        return bool(super().dominates(other, obj))


@dataclass(eq=False)
class Individual:
    """A successful trial with its fitness, as DEAP's selection takes it.

    `rating` orders individuals for strategies with a single fitness: larger is better.
    """

    trial: Trial
    fitness: Fitness
    rating: tuple[float, float] = (0.0, 0.0)


def individuals(trials: Iterable[Trial], objectives: Sequence[Objective]) -> list[Individual]:
    """Return the trials that have a fitness, by candidate number whatever order they came in."""
    successful = []
    for trial in sorted(trials, key=lambda trial: trial.number):
        values = fitness_of(trial.values if trial.outcome == "Ok" else None, objectives)
        if values is not None:
            successful.append(Individual(trial, Fitness(values, objectives)))
    return successful


def front(trials: Iterable[Trial], objectives: Sequence[Objective]) -> list[Trial]:
    """Return the trials that no other one dominates, by number; failed ones are never among them.

    With bounds, infeasible candidates are on the front only where no candidate is feasible.

    >>> from evolution import Candidate, Genotype, parse_objectives
    >>> from robustkit.models import Block
    >>> net = Genotype((Block(),))
    >>> trials = [
    ...     Trial(Candidate(number, net, (), "sample", 0), "Ok", {"accuracy": a, "macs": m})
    ...     for number, (a, m) in enumerate([(0.9, 9.0), (0.8, 1.0), (0.7, 5.0)])
    ... ]
    >>> best = front(trials, parse_objectives("accuracy:max,macs:min"))
    >>> [trial.number for trial in best]  # the last is worse than the second in both
    [0, 1]
    """
    successful = individuals(trials, objectives)
    if not successful:
        return []
    best = tools.sortNondominated(successful, len(successful), first_front_only=True)[0]
    return sorted((individual.trial for individual in best), key=lambda trial: trial.number)


def dominated_area(points: Iterable[tuple[float, float]], accuracy: float) -> float:
    """Return the area that (accuracy, transfer) points dominate, both in [0,1], times 100.

    In points of accuracy times the share not fooled, from the corner where accuracy is `accuracy`
    and all adversarials transfer; points no better than the corner add nothing.
    """
    gains = sorted(
        ((each - accuracy, 1 - transfer) for each, transfer in points if each > accuracy),
        reverse=True,
    )
    area, highest = 0.0, 0.0
    for gained, resisted in gains:
        if resisted > highest:
            area += gained * (resisted - highest)
            highest = resisted
    return 100 * area
