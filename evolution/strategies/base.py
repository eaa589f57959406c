"""Search strategies behind one interface: ask for a generation, tell how it did."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar, NamedTuple

from deap import base

from evolution.genotype import Candidate, Genotype, Scored
from evolution.objectives import Individual, Objective, individuals
from evolution.sampling import sample
from evolution.space import SearchSpace
from evolution.surrogate import Forecast
from evolution.variation import crossover, mutate
from robustkit.compute.seeds import derive_seed, isolated_rng
from robustkit.errors import ConfigError
from robustkit.registry import Registry

_ATTEMPTS = 600
_FEWEST_KNOWN = 5  # scored candidates without which there is no forecast
_MUTATED_CHILDREN = 0.5  # of the children of two parents, the share that is mutated as well


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """What every strategy needs to know.

    `population` × `generations` candidates are asked for in all, the first, sampled generation
    included. Images are `input_shape` (C,H,W). `crossover` is the share of children bred from two
    parents. Of every `screen` possible children, half of them sampled, the one with the best
    forecast is asked for; 1 leaves the published algorithms as they are. Raises `ConfigError`.
    """

    space: SearchSpace
    input_shape: tuple[int, int, int]
    num_classes: int
    objectives: tuple[Objective, ...]
    population: int = 8
    generations: int = 3
    seed: int = 0
    crossover: float = 0.4
    screen: int = 32

    def __post_init__(self) -> None:
        if self.population < 2:
            raise ConfigError(f"search: population must be at least 2, not {self.population}")
        if self.generations < 1:
            raise ConfigError(f"search: generations must be at least 1, not {self.generations}")
        if not 0 <= self.crossover <= 1:
            raise ConfigError(f"search: crossover must be in [0, 1], not {self.crossover}")
        if self.screen < 1:
            raise ConfigError(f"search: screen must be at least 1, not {self.screen}")
        if not self.objectives:
            raise ConfigError("search: at least one objective is needed")

    @property
    def budget(self) -> int:
        """How many candidates are asked for in all."""
        return self.population * self.generations


class Strategy(ABC):
    """A search, deterministic by its settings and by what it is told.

    No network is asked for twice. Two strategies with the same settings start from the same
    networks. Every random number derives from the seed and the candidate's number, so a search is
    resumed by telling a fresh strategy the recorded results again.
    """

    informed: ClassVar[bool] = True
    """Whether what was told steers what is asked."""

    def __init__(self, settings: SearchSettings) -> None:
        self.settings = settings
        self.toolbox = base.Toolbox()
        self.toolbox.register("sample", sample, space=settings.space)
        self.toolbox.register("mate", crossover, space=settings.space)
        self.toolbox.register("mutate", mutate, space=settings.space)
        self._pending: list[Candidate] = []
        self._keys: set[str] = set()
        self._scored: list[Individual] = []
        self._forecast: Forecast | None = None
        self._told = 0

    def ask(self) -> list[Candidate]:
        """The next candidates, all of which have to be told before more are asked; [] at the end.

        Raises `ConfigError` where the space yields no further network within its limits, and
        `RuntimeError` where candidates are still untold.
        """
        if self._pending:
            raise RuntimeError(f"ask: {len(self._pending)} candidates have not been told yet")
        asked = len(self._keys)
        size = self.settings.population if asked == 0 else self._batch_size()
        for number in range(asked, min(asked + size, self.settings.budget)):
            self._pending.append(self._candidate(number))
        return list(self._pending)

    def tell(self, results: Mapping[int, Scored]) -> None:
        """Learn how the candidates asked for last did; `results` maps their numbers.

        Its order does not matter. Raises `ValueError` unless it has exactly those numbers.
        """
        asked = {candidate.number for candidate in self._pending}
        if set(results) != asked:
            raise ValueError(f"tell: expected candidates {sorted(asked)}, not {sorted(results)}")
        self._pending = []
        self._learn(list(results.values()), len(self._keys))

    def _learn(self, results: list[Scored], moment: int) -> None:
        """Take in results; `moment` names the random numbers of who survives."""
        settings = self.settings
        born = individuals(results, settings.objectives)
        self._scored += born
        if self.informed and settings.screen > 1 and len(self._scored) >= _FEWEST_KNOWN:
            self._forecast = Forecast(self._scored, settings.objectives)
        with isolated_rng(derive_seed(settings.seed, "survival", moment)):
            self._absorb(born)

    def ask_one(self) -> Candidate | None:
        """The next candidate, though others are still untold; None at the end.

        For searches without generations: each candidate is bred from what is known when it is
        asked for, so the course depends on the order in which results are told.
        """
        number = len(self._keys)
        if number >= self.settings.budget:
            return None
        self._pending.append(self._candidate(number))
        return self._pending[-1]

    def tell_one(self, result: Scored) -> None:
        """Learn how one of the candidates asked for did; raises `ValueError` for any other."""
        number = result.candidate.number
        if number not in {candidate.number for candidate in self._pending}:
            raise ValueError(f"tell: candidate {number} is not among those asked for")
        self._pending = [each for each in self._pending if each.number != number]
        self._told += 1
        self._learn([result], self._told)

    def _batch_size(self) -> int:
        """How many candidates are asked for at once after the first generation."""
        return self.settings.population

    @abstractmethod
    def _absorb(self, born: list[Individual]) -> None:
        """Take in those of the last candidates that have a fitness, in order of their numbers."""

    @abstractmethod
    def _parents(self) -> list[Individual]:
        """One or two distinct parents, drawn with the global generators; [] to sample instead."""

    def _emphasis(self, rng: random.Random) -> list[float]:
        """What each objective counts when one child is chosen by its forecast."""
        return [objective.weight for objective in self.settings.objectives]

    def _candidate(self, number: int) -> Candidate:
        """A network not asked for before, within the limits; of several, the most promising."""
        settings = self.settings
        births = self._births(number)
        while pool := list(islice(births, settings.screen if self._screens(number) else 1)):
            for birth in self._by_merit(pool, number):
                genotype = birth.genotype
                if settings.space.fits(genotype, settings.input_shape, settings.num_classes):
                    self._keys.add(genotype.key())
                    parents = tuple(each.scored.candidate.number for each in birth.parents)
                    generation = number // settings.population
                    return Candidate(number, genotype, parents, birth.operator, generation)
        raise ConfigError(self._exhausted())

    def _births(self, number: int) -> Iterator[_Birth]:
        """Distinct networks not asked for before: bred while it works, then sampled.

        Where children are screened every other one is sampled, so that the forecast may lead away
        from the parents.
        """
        seen = set(self._keys)
        for attempt in range(_ATTEMPTS):
            bred = attempt % 2 == 0 if self._screens(number) else attempt < _ATTEMPTS // 2
            bred = bred and number >= self.settings.population
            seed = derive_seed(self.settings.seed, "candidate", number, attempt)
            birth = self._birth(seed, breed=bred)
            if (key := birth.genotype.key()) not in seen:
                seen.add(key)
                yield birth

    def _screens(self, number: int) -> bool:
        """Whether a candidate is the best forecast of several: never one of the first population.

        Without generations results come in while the first are still being asked for.
        """
        return self._forecast is not None and number >= self.settings.population

    def _by_merit(self, pool: list[_Birth], number: int) -> list[_Birth]:
        if self._forecast is None or not self._screens(number):
            return pool
        rng = random.Random(derive_seed(self.settings.seed, "emphasis", number))
        genotypes = [birth.genotype for birth in pool]
        merits = self._forecast.merits(genotypes, self._emphasis(rng))
        # Rounded, so that the last bits of a machine's arithmetic decide nothing.
        order = sorted(range(len(pool)), key=lambda place: -round(float(merits[place]), 9))
        return [pool[place] for place in order]

    def _birth(self, seed: int, *, breed: bool) -> _Birth:
        rng = random.Random(seed)
        parents: list[Individual] = []
        if breed:
            with isolated_rng(seed):
                parents = self._parents()
        if not parents:
            return _Birth(self.toolbox.sample(rng), [], "sample")
        genotypes = [each.scored.candidate.genotype for each in parents]
        if len(parents) == 2 and rng.random() < self.settings.crossover:
            child, operators = self.toolbox.mate(*genotypes, rng), ("crossover",)
            if rng.random() < _MUTATED_CHILDREN:
                child, mutations = self.toolbox.mutate(child, rng)
                operators += mutations
        else:
            parents = parents[:1]
            child, operators = self.toolbox.mutate(genotypes[0], rng)
        return _Birth(child, parents, "+".join(operators))

    def _exhausted(self) -> str:
        space, shape = self.settings.space, "×".join(map(str, self.settings.input_shape))
        return (
            f"search space: found {len(self._keys)} of {self.settings.budget} distinct networks "
            f"within max_params {space.max_params} and max_macs {space.max_macs} for {shape} "
            "images; raise the limits, widen the choices or ask for fewer"
        )


class _Birth(NamedTuple):
    genotype: Genotype
    parents: list[Individual]
    operator: str


STRATEGIES: Registry[type[Strategy]] = Registry("strategy", ConfigError)


def open_strategy(name: str, settings: SearchSettings) -> Strategy:
    """A fresh strategy; raises `ConfigError` for an unknown name."""
    return STRATEGIES.find(name)(settings)


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
