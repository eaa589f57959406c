"""Random search: the control every search has to beat at an equal budget."""

from __future__ import annotations

from evolution.objectives import Individual
from evolution.strategies.base import STRATEGIES, Strategy


@STRATEGIES.register("random")
class RandomSearch(Strategy):
    """Distinct networks, sampled as the first generation of every other strategy is."""

    informed = False

    def _absorb(self, born: list[Individual]) -> None:
        pass

    def _parents(self) -> list[Individual]:
        return []
