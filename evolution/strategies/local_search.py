"""Local search: mutations of the best network so far, from the reference's own architecture on."""

from __future__ import annotations

import random

from evolution.genotype import Candidate
from evolution.objectives import Individual
from evolution.strategies.base import STRATEGIES, SearchSettings, Strategy, rate


@STRATEGIES.register("local")
class LocalSearch(Strategy):
    """A (1+λ) search: every candidate is a mutation of the best one by its weighted fitness.

    It starts from the first preset alone, which is the reference's architecture where the space has
    it, and from sampled networks where there is no preset. With surrogate preselection half of the
    possible children are sampled, as in every strategy. A simple hill climber of this kind is a
    strong baseline of architecture search (Elsken et al. 2017, White et al. 2021).
    """

    def __init__(self, settings: SearchSettings) -> None:
        super().__init__(settings)
        self._presets = self._presets[:1]
        self._best: Individual | None = None

    def _breeds(self, number: int) -> bool:
        return bool(self._presets) or super()._breeds(number)

    def _propose(self, number: int, seed: int, *, breed: bool) -> Candidate:
        if not breed or self._best is not None or not self._presets:
            return super()._propose(number, seed, breed=breed)
        # Nothing is known yet: the preset itself may still be in training.
        child, operators = self.toolbox.mutate(self._presets[0], random.Random(seed))
        return Candidate(number, child, (), "+".join(("preset", *operators)), 0)

    def _absorb(self, born: list[Individual]) -> None:
        rate(self._known, self.settings.objectives)
        self._best = max(self._known, key=lambda individual: individual.rating, default=None)

    def _parents(self) -> list[Individual]:
        return [] if self._best is None else [self._best]
