"""Search strategies behind one interface: ask for candidates, tell their trials."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

from deap import base

from evolution.genotype import Candidate, Genotype, Trial
from evolution.objectives import Individual, Objective, individuals
from evolution.sampling import sample
from evolution.space import SearchSpace
from evolution.surrogate import Surrogate
from evolution.variation import crossover, mutate
from robustkit.compute.seeds import derive_seed, isolated_rng
from robustkit.errors import ConfigError
from robustkit.registry import Registry

_ATTEMPTS = 600
_FEWEST_KNOWN = 5  # successful trials without which there is no surrogate model
_MUTATED_CHILDREN = 0.5  # of the children of two parents, the share that is mutated as well


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """The settings of every strategy.

    `population` × `generations` candidates are asked for in all, the first generation included.
    Images are `input_shape` (C,H,W). `crossover` is the share of children bred from two parents.
    `screen` is surrogate preselection: of so many possible children, half of them sampled, the one
    with the best predicted score is asked for; 1 leaves the published algorithms as they are.
    `presets` are asked for first, before sampled networks: as many as fit the limits, at most half
    of the first generation. Raises `ConfigError`.
    """

    space: SearchSpace
    input_shape: tuple[int, int, int]
    num_classes: int
    objectives: tuple[Objective, ...]
    population: int = 8
    generations: int = 3
    seed: int = 0
    crossover: float = 0.4
    screen: int = 1
    presets: tuple[Genotype, ...] = ()

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
        """Return the number of candidates that are asked for in all."""
        return self.population * self.generations


class Strategy(ABC):
    """A search strategy, determined by its settings and by the trials it is told.

    No network is asked for twice. Two strategies with the same settings start from the same
    networks, but for local search. Every random number derives from the seed and the candidate's
    number, so a search is resumed by telling a fresh strategy the recorded trials again.
    """

    informed: ClassVar[bool] = True
    """Whether trials influence the candidates asked for later."""

    def __init__(self, settings: SearchSettings) -> None:
        self.settings = settings
        self.toolbox = base.Toolbox()
        self.toolbox.register("sample", sample, space=settings.space)
        self.toolbox.register("mate", crossover, space=settings.space)
        self.toolbox.register("mutate", mutate, space=settings.space)
        self._pending: list[Candidate] = []
        self._keys: set[str] = set()
        self._known: list[Individual] = []
        self._surrogate: Surrogate | None = None
        self._told = 0
        presets = {
            genotype.key(): genotype for genotype in settings.presets if self._fits(genotype)
        }
        self._presets = list(presets.values())[: settings.population // 2]

    def ask(self) -> list[Candidate]:
        """Return the next candidates, [] at the end; all have to be told before more are asked for.

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

    def tell(self, trials: Mapping[int, Trial]) -> None:
        """Take in the trials of the candidates asked for last, by their numbers.

        Their order does not matter. Raises `ValueError` unless there are exactly those numbers.
        """
        asked = {candidate.number for candidate in self._pending}
        if set(trials) != asked:
            raise ValueError(f"tell: expected candidates {sorted(asked)}, not {sorted(trials)}")
        self._pending = []
        self._learn(list(trials.values()), len(self._keys))

    def _learn(self, trials: list[Trial], moment: int) -> None:
        """Take in trials; `moment` seeds the random numbers of survival."""
        settings = self.settings
        born = individuals(trials, settings.objectives)
        self._known += born
        if self.informed and settings.screen > 1 and len(self._known) >= _FEWEST_KNOWN:
            self._surrogate = Surrogate(self._known, settings.objectives)
        with isolated_rng(derive_seed(settings.seed, "survival", moment)):
            self._absorb(born)

    def ask_one(self) -> Candidate | None:
        """Return the next candidate, also while others have not been told yet; None at the end.

        For searches without generations: each candidate is bred from the trials known when it is
        asked for, so the search depends on the order in which trials are told.
        """
        number = len(self._keys)
        if number >= self.settings.budget:
            return None
        self._pending.append(self._candidate(number))
        return self._pending[-1]

    def tell_one(self, trial: Trial) -> None:
        """Take in the trial of one candidate asked for; raises `ValueError` for any other."""
        number = trial.number
        if number not in {candidate.number for candidate in self._pending}:
            raise ValueError(f"tell: candidate {number} is not among those asked for")
        self._pending = [candidate for candidate in self._pending if candidate.number != number]
        self._told += 1
        self._learn([trial], self._told)

    def _batch_size(self) -> int:
        """Return how many candidates are asked for at once after the first generation."""
        return self.settings.population

    @abstractmethod
    def _absorb(self, born: list[Individual]) -> None:
        """Take in those of the last candidates that have a fitness, in order of their numbers."""

    @abstractmethod
    def _parents(self) -> list[Individual]:
        """Return one or two distinct parents, drawn with the global generators; [] to sample."""

    def _objective_weights(self, rng: random.Random) -> list[float]:
        """Return the objectives' weights in the predicted score of one child."""
        return [objective.weight for objective in self.settings.objectives]

    def _candidate(self, number: int) -> Candidate:
        """Return a new network within the limits: of several, the one of best predicted score."""
        settings = self.settings
        if number < len(self._presets):
            genotype = self._presets[number]
            self._keys.add(genotype.key())
            return Candidate(number, genotype, (), "preset", 0)
        proposals = self._proposals(number)
        while pool := list(islice(proposals, settings.screen if self._preselects(number) else 1)):
            for proposal in self._by_score(pool, number):
                if self._fits(proposal.genotype):
                    self._keys.add(proposal.genotype.key())
                    return proposal
        raise ConfigError(self._exhausted())

    def _fits(self, genotype: Genotype) -> bool:
        settings = self.settings
        return settings.space.fits(genotype, settings.input_shape, settings.num_classes)

    def _proposals(self, number: int) -> Iterator[Candidate]:
        """Yield distinct networks not asked for before: bred while that works, then sampled.

        With surrogate preselection every other one is sampled, so that it may lead away from the
        parents.
        """
        seen = set(self._keys)
        for attempt in range(_ATTEMPTS):
            bred = attempt % 2 == 0 if self._preselects(number) else attempt < _ATTEMPTS // 2
            bred = bred and self._breeds(number)
            seed = derive_seed(self.settings.seed, "candidate", number, attempt)
            proposal = self._propose(number, seed, breed=bred)
            if (key := proposal.genotype.key()) not in seen:
                seen.add(key)
                yield proposal

    def _breeds(self, number: int) -> bool:
        """Return whether a candidate is bred from others: none of the first population is."""
        return number >= self.settings.population

    def _preselects(self, number: int) -> bool:
        """Return whether a candidate is preselected by the surrogate model.

        None of the first population is: without generations trials end while it is asked for.
        """
        return self._surrogate is not None and number >= self.settings.population

    def _by_score(self, pool: list[Candidate], number: int) -> list[Candidate]:
        if self._surrogate is None or not self._preselects(number):
            return pool
        rng = random.Random(derive_seed(self.settings.seed, "emphasis", number))
        genotypes = [proposal.genotype for proposal in pool]
        scores = self._surrogate.scores(genotypes, self._objective_weights(rng))
        # Rounded, so that the last bits of a machine's arithmetic decide nothing.
        order = sorted(range(len(pool)), key=lambda index: -round(float(scores[index]), 9))
        return [pool[index] for index in order]

    def _propose(self, number: int, seed: int, *, breed: bool) -> Candidate:
        """Return a candidate, bred from parents or sampled."""
        generation = number // self.settings.population
        rng = random.Random(seed)
        parents: list[Individual] = []
        if breed:
            with isolated_rng(seed):
                parents = self._parents()
        if not parents:
            return Candidate(number, self.toolbox.sample(rng), (), "sample", generation)
        genotypes = [parent.trial.candidate.genotype for parent in parents]
        if len(parents) == 2 and rng.random() < self.settings.crossover:
            child, operators = self.toolbox.mate(*genotypes, rng), ("crossover",)
            if rng.random() < _MUTATED_CHILDREN:
                child, mutations = self.toolbox.mutate(child, rng)
                operators += mutations
        else:
            parents = parents[:1]
            child, operators = self.toolbox.mutate(genotypes[0], rng)
        numbers = tuple(parent.trial.number for parent in parents)
        return Candidate(number, child, numbers, "+".join(operators), generation)

    def _exhausted(self) -> str:
        space, shape = self.settings.space, "×".join(map(str, self.settings.input_shape))
        return (
            f"search space: found {len(self._keys)} of {self.settings.budget} distinct networks "
            f"within max_params {space.max_params} and max_macs {space.max_macs} for {shape} "
            "images; raise the limits, widen the choices or ask for fewer"
        )


STRATEGIES: Registry[type[Strategy]] = Registry("strategy", ConfigError)


def open_strategy(name: str, settings: SearchSettings) -> Strategy:
    """Return a fresh strategy; raises `ConfigError` for an unknown name."""
    return STRATEGIES.find(name)(settings)


def rate(individuals: Sequence[Individual], objectives: Sequence[Objective]) -> None:
    """Set every individual's `rating` to (-violation, weighted sum); larger is better.

    Accuracies and MACs share no unit, so each objective is first brought to 0 (the worst of
    them) … 1 (the best): weights then compare what networks differ by.
    """
    sums = [0.0] * len(individuals)
    for column, objective in enumerate(objectives):
        signed = [objective.sign * individual.fitness.values[column] for individual in individuals]
        low, high = min(signed, default=0.0), max(signed, default=0.0)
        span = (high - low) or 1.0
        for index, value in enumerate(signed):
            sums[index] += objective.weight * (value - low) / span
    for individual, total in zip(individuals, sums, strict=True):
        individual.rating = (-individual.fitness.violation, total)
