"""NSGA-II: several objectives at once, none traded for another (Deb et al. 2002)."""

from __future__ import annotations

import random

from deap import tools

from evolution.objectives import Individual
from evolution.strategies.base import STRATEGIES, SearchSettings, Strategy


@STRATEGIES.register("nsga2")
class NSGA2(Strategy):
    """The best fronts of parents and children survive; binary tournaments choose parents.

    Of a front that does not survive whole, and between parents neither of which dominates the
    other, those in the less crowded regions are preferred.
    """

    def __init__(self, settings: SearchSettings) -> None:
        super().__init__(settings)
        self.toolbox.register("survive", tools.selNSGA2, k=settings.population)
        self.toolbox.register("select", tools.selTournamentDCD, k=4)
        self._population: list[Individual] = []

    def _absorb(self, born: list[Individual]) -> None:
        union = self._population + born
        self._population = self.toolbox.survive(union) if union else []

    def _objective_weights(self, rng: random.Random) -> list[float]:
        """Draw other weights for every child, so that preselection favours no part of the front."""
        return [rng.expovariate(1.0) for _ in self.settings.objectives]

    def _parents(self) -> list[Individual]:
        if len(self._population) < 4:  # too few for two tournaments between different ones
            return random.sample(self._population, min(2, len(self._population)))
        parents: list[Individual] = self.toolbox.select(self._population)
        return parents[:2]
