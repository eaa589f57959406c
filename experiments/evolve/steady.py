"""One search without generations: a candidate is asked for whenever another has ended."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from evolution.candidate import Candidate
from experiments.evolve.arm import Arm
from robustkit.errors import RunError
from robustkit.runs import Trial


class Wanted(NamedTuple):
    """A candidate and the rung on which it is to be tried."""

    candidate: Candidate
    rung: int = 0


class SteadyArm(Arm):
    """Keeps `in_flight` candidates under way, each bred from all that has ended when it is asked.

    No worker waits for a generation, and the course depends on which trial ends first. The ledger
    has that order: told the `recorded` trials in it, a fresh strategy asks for the very same
    candidates, so that a resumed run goes on where it stopped.
    """

    def __init__(self, *place: Any, in_flight: int, recorded: Sequence[Trial], **of: Any) -> None:
        super().__init__(*place, **of)
        self._in_flight, self._recorded = in_flight, recorded
        self._under_way: dict[tuple[int, int], Wanted] = {}

    def advance(self) -> None:
        """Ask for the first candidates, go through what is recorded, and enter what is missing.

        Raises `RunError` where the ledger holds other candidates than those asked for.
        """
        for _ in range(self._in_flight):
            self._ask()
        for trial in self._recorded:
            place = (trial.payload["number"], self._rung(trial))
            wanted = self._under_way.get(place)
            if wanted is None or wanted.candidate.genotype.key() != trial.payload["genotype_key"]:
                raise RunError(
                    f"trial '{trial.id}' is not what this search would have asked for: the ledger "
                    "was changed, or another version of robustkit wrote it; start the run anew"
                )
            self._agenda.recall(trial)
            self._end(wanted, trial)
            self._ask()
        for wanted in list(self._under_way.values()):
            self._try(wanted)
        if not self._under_way:
            self._hand_over()

    def _next(self) -> Wanted | None:
        """What is to be tried next; None at the end."""
        candidate = self._strategy.ask_one()
        return None if candidate is None else Wanted(candidate)

    def _rung(self, trial: Trial) -> int:
        """The rung that a trial of the ledger was on."""
        return 0

    def _try(self, wanted: Wanted) -> None:
        self._enter(wanted.candidate, partial(self._ended, wanted))

    def _tell(self, wanted: Wanted, trial: Trial) -> None:
        self._strategy.tell_one(self._take(wanted.candidate, trial))

    def _ask(self) -> Wanted | None:
        wanted = self._next()
        if wanted is not None:
            self._under_way[wanted.candidate.number, wanted.rung] = wanted
        return wanted

    def _end(self, wanted: Wanted, trial: Trial) -> None:
        del self._under_way[wanted.candidate.number, wanted.rung]
        self._tell(wanted, trial)

    def _ended(self, wanted: Wanted, candidate: Candidate, trial: Trial) -> None:
        self._end(wanted, trial)
        following = self._ask()
        if following is not None:
            self._try(following)
        elif not self._under_way:
            self._hand_over()
