"""One search without generations: a candidate is asked for whenever another has ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evolution.candidate import Candidate
from experiments.evolve.arm import Arm
from robustkit.errors import RunError
from robustkit.runs import Trial


class SteadyArm(Arm):
    """Keeps `in_flight` candidates under way, each bred from all that has ended when it is asked.

    No worker waits for a generation, and the course depends on which trial ends first. The ledger
    has that order: told the `recorded` trials in it, a fresh strategy asks for the very same
    candidates, so that a resumed run goes on where it stopped.
    """

    def __init__(self, *place: Any, in_flight: int, recorded: Sequence[Trial], **of: Any) -> None:
        super().__init__(*place, **of)
        self._in_flight, self._recorded = in_flight, recorded
        self._under_way: dict[int, Candidate] = {}

    def advance(self) -> None:
        """Ask for the first candidates, go through what is recorded, and enter what is missing.

        Raises `RunError` where the ledger holds other candidates than those asked for.
        """
        for _ in range(self._in_flight):
            self._ask()
        for trial in self._recorded:
            number, key = trial.payload["number"], trial.payload["genotype_key"]
            candidate = self._under_way.get(number)
            if candidate is None or candidate.genotype.key() != key:
                raise RunError(
                    f"trial '{trial.id}' is not what this search would have asked for: the ledger "
                    "was changed, or another version of robustkit wrote it; start the run anew"
                )
            self._agenda.recall(trial)
            self._tell(candidate, trial)
            self._ask()
        for candidate in list(self._under_way.values()):
            self._enter(candidate, self._ended)
        if not self._under_way:
            self._hand_over()

    def _ask(self) -> Candidate | None:
        candidate = self._strategy.ask_one()
        if candidate is not None:
            self._under_way[candidate.number] = candidate
        return candidate

    def _tell(self, candidate: Candidate, trial: Trial) -> None:
        del self._under_way[candidate.number]
        self._strategy.tell_one(self._take(candidate, trial))

    def _ended(self, candidate: Candidate, trial: Trial) -> None:
        self._tell(candidate, trial)
        following = self._ask()
        if following is not None:
            self._enter(following, self._ended)
        elif not self._under_way:
            self._hand_over()
