"""Search strategies behind one interface: ask for a generation, tell how it did."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from deap import base

from evolution.candidate import Candidate, Scored
from evolution.genotype import Genotype
from evolution.objectives import Objective
from evolution.pareto import Individual, individuals
from evolution.sampling import sample
from evolution.space import SearchSpace
from evolution.variation import crossover, mutate
from robustkit.compute.seeds import derive_seed, isolated_rng
from robustkit.errors import ConfigError

_ATTEMPTS = 600
_MUTATED_CHILDREN = 0.5  # of the children of two parents, the share that is mutated as well


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """What every strategy needs to know.

    `population` × `generations` candidates are asked for in all, the first, sampled generation
    included. Images are `input_shape` (C,H,W). `crossover` is the share of children bred from two
    parents. Raises `ConfigError`.
    """

    space: SearchSpace
    input_shape: tuple[int, int, int]
    num_classes: int
    objectives: tuple[Objective, ...]
    population: int = 8
    generations: int = 3
    seed: int = 0
    crossover: float = 0.4

    def __post_init__(self) -> None:
        if self.population < 2:
            raise ConfigError(f"search: population must be at least 2, not {self.population}")
        if self.generations < 1:
            raise ConfigError(f"search: generations must be at least 1, not {self.generations}")
        if not 0 <= self.crossover <= 1:
            raise ConfigError(f"search: crossover must be in [0, 1], not {self.crossover}")
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

    def __init__(self, settings: SearchSettings) -> None:
        self.settings = settings
        self.toolbox = base.Toolbox()
        self.toolbox.register("sample", sample, space=settings.space)
        self.toolbox.register("mate", crossover, space=settings.space)
        self.toolbox.register("mutate", mutate, space=settings.space)
        self._pending: list[Candidate] = []
        self._keys: set[str] = set()

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
        with isolated_rng(derive_seed(self.settings.seed, "survival", len(self._keys))):
            self._absorb(individuals(results.values(), self.settings.objectives))

    def _batch_size(self) -> int:
        """How many candidates are asked for at once after the first generation."""
        return self.settings.population

    @abstractmethod
    def _absorb(self, born: list[Individual]) -> None:
        """Take in those of the last candidates that have a fitness, in order of their numbers."""

    @abstractmethod
    def _parents(self) -> list[Individual]:
        """One or two distinct parents, drawn with the global generators; [] to sample instead."""

    def _candidate(self, number: int) -> Candidate:
        """A network not asked for before, within the limits; bred if it can be, else sampled."""
        settings = self.settings
        for attempt in range(_ATTEMPTS):
            seed = derive_seed(settings.seed, "candidate", number, attempt)
            birth = self._birth(seed, breed=attempt < _ATTEMPTS // 2)
            key = birth.genotype.key()
            if key not in self._keys and settings.space.fits(
                birth.genotype, settings.input_shape, settings.num_classes
            ):
                self._keys.add(key)
                parents = tuple(each.scored.candidate.number for each in birth.parents)
                generation = number // settings.population
                return Candidate(number, birth.genotype, parents, birth.operator, generation)
        raise ConfigError(self._exhausted())

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
