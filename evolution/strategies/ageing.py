"""Regularised evolution: the oldest die, however good they are (Real et al. 2019)."""

from __future__ import annotations

from deap import tools

from evolution.objectives import Individual
from evolution.strategies.base import STRATEGIES, SearchSettings, Strategy, rate


@STRATEGIES.register("ageing")
class Ageing(Strategy):
    """The best of a random quarter of the population is mutated; the child replaces the oldest.

    A network has to prove itself again in its descendants, so that lucky training runs do not
    take over. Children come a quarter of the population at a time rather than singly, so that
    workers have something to do whatever their number. Each has one parent: no crossover, as in
    the paper.
    """

    def __init__(self, settings: SearchSettings) -> None:
        super().__init__(settings)
        self._quarter = max(2, settings.population // 4)
        self.toolbox.register(
            "select", tools.selTournament, k=1, tournsize=self._quarter, fit_attr="rating"
        )
        self._population: list[Individual] = []

    def _batch_size(self) -> int:
        return self._quarter

    def _absorb(self, born: list[Individual]) -> None:
        rate(self._known, self.settings.objectives)
        self._population = (self._population + born)[-self.settings.population :]

    def _parents(self) -> list[Individual]:
        if not self._population:
            return []
        parents: list[Individual] = self.toolbox.select(self._population)
        return parents
