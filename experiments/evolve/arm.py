"""One search: a strategy whose candidates become tasks, generation by generation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from evolution.candidate import Candidate, Scored
from evolution.strategies import SearchSettings, open_strategy
from experiments.evolve.agenda import Agenda, Task
from experiments.evolve.config import MEASURES
from experiments.evolve.identity import identity
from experiments.evolve.jobs import TrainNet
from experiments.evolve.selection import Contender
from robustkit.compute import derive_seed
from robustkit.runs import Trial


class Arm:
    """A strategy, where its candidates' tasks are entered, and what has come of them.

    `done` is handed all that succeeded, in the order of the candidates' numbers, at the end.
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
        done: Callable[[list[Contender]], None],
        around: str = "",
    ) -> None:
        self._name, self._run_path, self._seed, self._around = name, run_path, seed, around
        self._strategy = open_strategy(strategy, settings)
        self._agenda, self._priority, self._done = agenda, priority, done
        self._contenders: list[Contender] = []

    def _enter(self, candidate: Candidate, then: Callable[[Candidate, Trial], None]) -> None:
        task = candidate_task(self._name, candidate, self._run_path, self._seed, self._around)
        self._agenda.add(task, partial(then, candidate), priority=self._priority)

    def _take(self, candidate: Candidate, trial: Trial) -> Scored:
        """What the strategy is to be told of the trial; a success becomes a contender."""
        if trial.outcome != "Ok" or trial.result is None:
            return Scored(candidate, trial.outcome, None)
        self._contenders.append(Contender(candidate, trial.result))
        values = {name: float(trial.result[name]) for name in MEASURES}
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


def candidate_task(
    arm: str, candidate: Candidate, run_path: str, seed: int, around: str = ""
) -> Task:
    """The trial of a candidate at trial budget: rung 0. `around` is what all trials share."""
    return _task(f"{arm}/{candidate.number:04d}", arm, candidate, run_path, seed, around, rung=0)


def promotion_task(
    arm: str, candidate: Candidate, run_path: str, seed: int, around: str = ""
) -> Task:
    """The trial of a candidate at the finalists' budget, still without val: rung 1."""
    name = f"promote-{arm}"
    return _task(f"{name}/{candidate.number:04d}", name, candidate, run_path, seed, around, rung=1)


def _task(
    task_id: str,
    arm: str,
    candidate: Candidate,
    run_path: str,
    seed: int,
    around: str,
    *,
    rung: int,
) -> Task:
    genotype = candidate.genotype
    job = TrainNet(
        run_path=run_path,
        architecture={"family": "blueprint", "blueprint": genotype.blueprint().to_dict()},
        seed=derive_seed(seed, genotype.key(), rung),
        part="trial" if rung == 0 else "train",
        penalised=True,
        final=rung > 0,
        scored=True,
    )
    payload = {
        "genotype": genotype.to_dict(),
        "genotype_key": genotype.key(),
        "number": candidate.number,
        "parents": list(candidate.parents),
        "operator": candidate.operator,
        "generation": candidate.generation,
        "rung": rung,
        "identity": identity(job, around),
    }
    return Task(id=task_id, arm=arm, key=f"{genotype.key()}/{rung}", job=job, payload=payload)
