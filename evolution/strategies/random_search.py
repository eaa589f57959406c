"""Random search: the control every search has to beat at an equal budget."""

from __future__ import annotations

from evolution.pareto import Individual
from evolution.strategies.base import Strategy
from evolution.strategies.registry import STRATEGIES


@STRATEGIES.register("random")
class RandomSearch(Strategy):
    """Distinct networks, sampled as the first generation of every other strategy is."""

    informed = False

    def _absorb(self, born: list[Individual]) -> None:
        pass

    def _parents(self) -> list[Individual]:
        return []
