"""Random search: the control every search has to beat at an equal budget."""

from __future__ import annotations

from evolution.objectives import Individual
from evolution.strategies.base import STRATEGIES, Strategy


@STRATEGIES.register("random")
class RandomSearch(Strategy):
    """Presets, then distinct networks sampled as those of every other first generation are."""

    informed = False

    def _absorb(self, born: list[Individual]) -> None:
        pass

    def _parents(self) -> list[Individual]:
        return []
