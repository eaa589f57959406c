"""(μ+λ): one weighted fitness, and only the best of parents and children survive."""

from __future__ import annotations

from deap import tools

from evolution.objectives import Individual
from evolution.strategies.base import STRATEGIES, SearchSettings, Strategy, rate


@STRATEGIES.register("mu_plus_lambda")
class MuPlusLambda(Strategy):
    """μ = λ = population; parents win a tournament of two by their weighted fitness."""

    def __init__(self, settings: SearchSettings) -> None:
        super().__init__(settings)
        self.toolbox.register("survive", tools.selBest, k=settings.population, fit_attr="rating")
        self.toolbox.register("select", tools.selTournament, k=2, tournsize=2, fit_attr="rating")
        self._population: list[Individual] = []

    def _absorb(self, born: list[Individual]) -> None:
        rate(self._known, self.settings.objectives)
        self._population = self.toolbox.survive(self._population + born)

    def _parents(self) -> list[Individual]:
        if not self._population:
            return []
        first, second = self.toolbox.select(self._population)
        return [first] if first is second else [first, second]
