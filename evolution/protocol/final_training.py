"""The finalists' trainings, and the verdict on each."""

from __future__ import annotations

from collections.abc import Collection

from evolution.protocol.jobs import JudgeNet, TrainNet
from evolution.protocol.reference import PLAYERS, Recipe
from evolution.protocol.workspace import Workspace
from evolution.runner.scheduler import Agenda, Task
from robustkit.compute import derive_seed
from robustkit.errors import RunError
from robustkit.runs import Entry


class Finals:
    """Trains each player's nets from scratch on train and val, and judges all of them on test.

    R is judged first, once it is prepared and the surrogate is trained: on the way it crafts the
    adversarials that all others are judged by. A training that fails is left out; a player
    without any ends the run, but for those `left_out`.
    """

    def __init__(
        self,
        space: Workspace,
        agenda: Agenda,
        *,
        judging_priority: int,
        left_out: Collection[str] = (),
    ) -> None:
        self._space, self._agenda, self._priority = space, agenda, judging_priority
        self._players = [player for player in PLAYERS if player not in left_out]
        self._run_path = str(space.folder.path)
        self._scratch = str(space.scratch)
        self._conditions = {"reference", "surrogate"}
        self._waiting: list[str] = []
        self._judges = False
        self._finished: set[str] = set()

    def enter(self, player: str, recipe: Recipe, key: str, *, priority: int) -> None:
        """Train `player`'s nets; nets of one `key` start from the same weights, with or without
        penalty."""
        config = self._space.config
        for number in range(config.final_seeds):
            name = f"{player}-{number}"
            job = TrainNet(
                run_path=self._run_path,
                architecture=recipe.architecture,
                seed=derive_seed(config.seed, key, "final", number),
                part="all",
                penalised=PLAYERS[player],
                final=True,
                name=name,
                preprocessing=recipe.preprocessing,
                scratch=self._scratch,
            )
            task = Task(id=f"final/{name}", arm="final", key=f"final/{name}", job=job)
            self._agenda.add(task, self._trained, priority=priority)

    def ready(self, condition: str) -> None:
        """Say that "reference" is prepared or "surrogate" is trained."""
        self._conditions.discard(condition)
        if not self._conditions:
            self._judge("R")

    def check(self) -> None:
        """Raise `RunError` unless at least one net of every player has been judged."""
        for player in self._players:
            if not any(name.split("-")[0] == player for name in self._finished):
                raise RunError(f"no training of {player} succeeded: see {self._run_path}'s ledger")

    def _trained(self, trial: Entry) -> None:
        if trial.outcome == "Ok":
            name = trial.id.split("/")[1]
            if self._judges:
                self._judge(name)
            else:
                self._waiting.append(name)

    def _judge(self, name: str) -> None:
        job = JudgeNet(self._run_path, name, self._scratch)
        task = Task(id=f"judge/{name}", arm="judge", key=f"judge/{name}", job=job, needed=True)
        self._agenda.add(task, self._judged, priority=self._priority)

    def _judged(self, trial: Entry) -> None:
        name = trial.id.split("/")[1]
        self._finished.add(name)
        if name == "R":
            self._judges = True
            for waiting in self._waiting:
                self._judge(waiting)
