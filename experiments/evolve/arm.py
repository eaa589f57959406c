"""One search: a strategy whose candidates become tasks, generation by generation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from evolution import MEASURES
from evolution.candidate import Candidate, Scored
from evolution.strategies import SearchSettings, open_strategy
from experiments.evolve.agenda import Agenda
from experiments.evolve.selection import Contender
from experiments.evolve.trying import Search, candidate_task, heirloom
from robustkit.runs import Trial


class Arm:
    """A strategy, where its candidates' tasks are entered, and what has come of them.

    `done` is handed all that succeeded, in the order of the candidates' numbers, at the end.
    """

    def __init__(
        self,
        search: Search,
        strategy: str,
        settings: SearchSettings,
        agenda: Agenda,
        *,
        priority: int,
        done: Callable[[list[Contender]], None],
    ) -> None:
        self._search = search
        self._strategy = open_strategy(strategy, settings)
        self._population = settings.population
        self._agenda, self._priority, self._done = agenda, priority, done
        self._contenders: list[Contender] = []
        self._heirlooms: dict[int, str] = {}

    def _enter(
        self,
        candidate: Candidate,
        then: Callable[[Candidate, Trial], None],
        epochs: int | None = None,
        *,
        related: bool = True,
    ) -> None:
        """Have the candidate tried; with `epochs`, on a lower rung than a trial's.

        Where the search inherits, who is not `related` starts from scratch and leaves nothing.
        """
        heirlooms = None
        # A search that breeds nothing shares no more than its first candidates with one that does.
        breeds = self._strategy.informed or candidate.number < self._population
        if self._search.inherit and related and breeds:
            heirlooms = [self._heirlooms[parent] for parent in candidate.parents]
        task = candidate_task(self._search, candidate, epochs=epochs, heirlooms=heirlooms)
        self._agenda.add(task, partial(then, candidate), priority=self._priority)

    def _take(self, candidate: Candidate, trial: Trial, *, contends: bool = True) -> Scored:
        """What the strategy is to be told of the trial; a success becomes a contender."""
        if trial.outcome != "Ok" or trial.result is None:
            return Scored(candidate, trial.outcome, None)
        self._heirlooms.setdefault(candidate.number, heirloom(trial.key))
        if contends:
            self._contenders.append(Contender(candidate, trial.result))
        values = {name: float(trial.result[name]) for name in MEASURES if name in trial.result}
        return Scored(candidate, trial.outcome, values)

    def _hand_over(self) -> None:
        self._done(sorted(self._contenders, key=lambda each: each.candidate.number))


class SearchArm(Arm):
    """Asks, has the candidates trained and scored, tells, until the strategy has no more.

    The strategy is told a generation at a time and in the order of the candidates' numbers, so
    that what it asks next does not depend on which worker was faster.
    """

    _awaited: int
    _told: dict[int, Scored]

    def advance(self) -> None:
        """Ask for the next candidates and enter their tasks; at the end, hand over the found."""
        candidates = self._strategy.ask()
        if not candidates:
            self._hand_over()
            return
        self._awaited, self._told = len(candidates), {}
        for candidate in candidates:
            self._enter(candidate, self._scored)

    def _scored(self, candidate: Candidate, trial: Trial) -> None:
        self._told[candidate.number] = self._take(candidate, trial)
        if len(self._told) == self._awaited:
            self._strategy.tell(dict(sorted(self._told.items())))
            self.advance()
