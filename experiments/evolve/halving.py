"""One search by successive halving: many candidates for few epochs, the best of them for more."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from evolution.halving import Halving
from evolution.objectives import Objective
from experiments.evolve.steady import SteadyArm, Wanted
from robustkit.runs import Trial


class HalvingArm(SteadyArm):
    """Trains `epochs[0]` first, and whoever is promoted from scratch for the epochs of its rung.

    The strategy breeds from what the lowest rung says, where all candidates can be compared; a
    promotion goes before a new candidate. `budget` is in epochs, all rungs together: the search
    ends when the next training does not fit. Contenders are those of the last rung alone, whose
    trials are what trials without halving are; `objectives` are those of the rungs below it.
    """

    def __init__(
        self,
        *place: Any,
        epochs: Sequence[int],
        rate: int,
        objectives: Sequence[Sequence[Objective]],
        budget: int,
        **of: Any,
    ) -> None:
        super().__init__(*place, **of)
        self._epochs, self._left = tuple(epochs), budget
        self._halving = Halving(objectives, rate)

    def _next(self) -> Wanted | None:
        promoted = self._halving.promote()
        rung = promoted[1] if promoted else 0
        self._left -= self._epochs[rung]
        if self._left < 0:
            return None
        if promoted:
            return Wanted(*promoted)
        candidate = self._strategy.ask_one()
        return None if candidate is None else Wanted(candidate)

    def _rung(self, trial: Trial) -> int:
        return self._epochs.index(trial.payload.get("epochs", self._epochs[-1]))

    def _try(self, wanted: Wanted) -> None:
        last = wanted.rung == len(self._epochs) - 1
        epochs = None if last else self._epochs[wanted.rung]
        then = partial(self._ended, wanted)
        self._enter(wanted.candidate, then, epochs, related=wanted.rung == 0)

    def _tell(self, wanted: Wanted, trial: Trial) -> None:
        last = wanted.rung == len(self._epochs) - 1
        scored = self._take(wanted.candidate, trial, contends=last)
        if wanted.rung == 0:
            self._strategy.tell_one(scored)
        self._halving.tell(wanted.rung, scored)
