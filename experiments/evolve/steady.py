"""One search without generations: a candidate is asked for whenever another has ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from evolution.candidate import Candidate
from evolution.strategies import SearchSettings, open_strategy
from experiments.evolve.agenda import Agenda
from experiments.evolve.arm import candidate_task, scored_by
from experiments.evolve.selection import Contender
from robustkit.errors import RunError
from robustkit.runs import Trial


class SteadyArm:
    """Keeps `in_flight` candidates under way, each bred from all that has ended when it is asked.

    No worker waits for a generation, and the course depends on which trial ends first. The ledger
    has that order: told the `recorded` trials in it, a fresh strategy asks for the very same
    candidates, so that a resumed run goes on where it stopped.
    """

    def __init__(
        self,
        name: str,
        strategy: str,
        settings: SearchSettings,
        run_path: str,
        agenda: Agenda,
        *,
        seed: int,
        priority: int,
        in_flight: int,
        recorded: Sequence[Trial],
        done: Callable[[list[Contender]], None],
        around: str = "",
    ) -> None:
        self._name, self._run_path, self._seed, self._around = name, run_path, seed, around
        self._strategy = open_strategy(strategy, settings)
        self._agenda, self._priority, self._done = agenda, priority, done
        self._in_flight, self._recorded = in_flight, recorded
        self._under_way: dict[int, Candidate] = {}
        self._contenders: list[Contender] = []

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
            self._enter(candidate)
        if not self._under_way:
            self._end()

    def _ask(self) -> Candidate | None:
        candidate = self._strategy.ask_one()
        if candidate is not None:
            self._under_way[candidate.number] = candidate
        return candidate

    def _tell(self, candidate: Candidate, trial: Trial) -> None:
        del self._under_way[candidate.number]
        scored, contender = scored_by(candidate, trial)
        self._strategy.tell_one(scored)
        if contender is not None:
            self._contenders.append(contender)

    def _enter(self, candidate: Candidate) -> None:
        self._agenda.add(
            candidate_task(self._name, candidate, self._run_path, self._seed, self._around),
            partial(self._ended, candidate),
            priority=self._priority,
        )

    def _ended(self, candidate: Candidate, trial: Trial) -> None:
        self._tell(candidate, trial)
        following = self._ask()
        if following is not None:
            self._enter(following)
        elif not self._under_way:
            self._end()

    def _end(self) -> None:
        self._done(sorted(self._contenders, key=lambda each: each.candidate.number))
