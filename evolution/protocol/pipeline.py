"""The experiment from the reference to the verdicts, as tasks that make each other possible.

R, unless it is given, and the surrogate are trained; R's gradients and adversarials are prepared;
R's architecture is tried at trial budget, which sets the search's yardstick (R itself does where
its architecture cannot be built again); the search and its random control run; the chosen nets and
all controls are trained and judged. Nothing waits for a phase to end that it does not depend on.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from evolution.halving import rungs
from evolution.protocol.final_training import Finals
from evolution.protocol.jobs import PrepareReference, TrainNet
from evolution.protocol.reference import ARMS, PLAYERS, Recipe, open_reference, recipe
from evolution.protocol.trials import Search, promotion_task, reusable, surroundings
from evolution.protocol.workspace import REFERENCE, SURROGATE, Workspace, make_scratch
from evolution.runner.scheduler import Agenda, Task
from evolution.runner.searches import Choice, Contender, Yardstick, open_arm, ranked
from robustkit import models
from robustkit.compute import derive_seed
from robustkit.errors import RunError
from robustkit.jobs import Executor
from robustkit.runs import Entry, Ledger

# Smaller goes first: what others wait for, then the searches, then what merely has to be done.
FIRST, SEARCH, CHOSEN, CONTROL, FILLER = range(5)


class Evolution:
    """One run. After `run()`, `prepared`, `baseline` and `choices` say what was found on the way.

    `reference` says what R is; `prepared` is R's result of `PrepareReference`; `baseline` the
    trials of R's architecture without ("R2") and with the penalty ("Rp"), empty where it cannot be
    built again; `choices` has the players E, E0 and RS for keys.
    """

    def __init__(
        self,
        space: Workspace,
        executor: Executor,
        ledger: Ledger,
        on_trial: Callable[[Entry], None],
    ) -> None:
        self.space, self.config = space, space.config
        self.prepared: dict[str, Any] = {}
        self.baseline: dict[str, dict[str, Any]] = {}
        self.choices: dict[str, Choice] = {}
        self._rungs = rungs(self.config.epochs, self.config.halving) if self.config.halving else ()
        self._searches: dict[str, Search] = {}
        self._path, self._scratch = str(space.folder.path.resolve()), str(space.scratch)
        self._executor, self._ledger = executor, ledger
        other = reusable(space.folder.config.get("reuse"))
        self._agenda = Agenda(executor, ledger, on_trial, other)
        self.reference = open_reference(space)
        missing = self.reference.left_out
        self._finals = Finals(space, self._agenda, judging_priority=FILLER, left_out=missing)
        self._recipe = recipe(REFERENCE, self.config.reference, space, given=self.reference.given)

    def run(self) -> None:
        """Everything, from wherever the ledger says the run has come to."""
        make_scratch(self.space.scratch)
        self.space.share_images(self._executor)  # views are written once, before workers map them
        if self.reference.given:
            self._prepare()
        else:
            self._train(REFERENCE, self._recipe, lambda trial: self._prepare())
        surrogate = recipe(SURROGATE, self.config.surrogate, self.space)
        self._train(SURROGATE, surrogate, lambda trial: self._finals.ready("surrogate"))
        if "R2" not in self.reference.left_out:
            self._finals.enter("R2", self._recipe, "reference", priority=FILLER)
        self._agenda.work()
        self._agenda.check()
        self._finals.check()

    def _train(self, name: str, recipe: Recipe, then: Callable[[Entry], None]) -> None:
        """Train R or the surrogate on the training split."""
        job = TrainNet(
            run_path=self._path,
            architecture=recipe.architecture,
            seed=derive_seed(self.config.seed, "net", name),
            part="train",
            penalised=False,
            final=True,
            name=name,
            preprocessing=recipe.preprocessing,
            scratch=self._scratch,
        )
        task_id = f"reference/{name}"
        task = Task(id=task_id, arm="reference", key=task_id, job=job, needed=True)
        self._agenda.add(task, then, priority=FIRST)

    def _prepare(self) -> None:
        job = PrepareReference(self._path, self._scratch)
        task = Task(id="prepare", arm="reference", key="prepare", job=job, needed=True)
        self._agenda.add(task, self._after_preparation, priority=FIRST)

    def _after_preparation(self, trial: Entry) -> None:
        self.prepared = trial.result or {}
        self.space.share_gradients(self._executor)
        if self.reference.left_out:
            self._search(self._as_baseline())
            self._finals.ready("reference")
            return
        for name in ("R2", "Rp"):
            self._agenda.add(self._baseline_task(name), partial(self._note, name), priority=FIRST)
        for epochs in self._rungs[:-1]:
            task, name = self._baseline_task("R2", epochs), f"R2/{epochs}"
            self._agenda.add(task, partial(self._note, name), priority=FIRST)
        self._finals.ready("reference")
        self._finals.enter("Rp", self._recipe, "reference", priority=FILLER)

    def _as_baseline(self) -> dict[str, dict[str, Any]]:
        """R itself in place of its architecture at trial budget, where that cannot be built."""
        size = models.cost(self.space.net(REFERENCE), self.space.splits.train.shape)
        itself = {"accuracy": self.prepared["accuracy"], "macs": size.macs}
        names = ("R2", *(f"R2/{epochs}" for epochs in self._rungs[:-1]))
        return dict.fromkeys(names, itself)

    def _baseline_task(self, name: str, epochs: int | None = None) -> Task:
        """R's architecture at trial budget: what a candidate would do if it were R2 or R'.

        With `epochs`, the same on a lower rung.
        """
        job = TrainNet(
            run_path=self._path,
            architecture=self._recipe.architecture,
            seed=derive_seed(self.config.seed, "reference", 0),
            part="trial",
            penalised=PLAYERS[name],
            final=False,
            scored=True,
            epochs=epochs,
            preprocessing=self._recipe.preprocessing,
            scratch=self._scratch,
        )
        task_id = f"baseline/{name}" if epochs is None else f"baseline/{name}/{epochs}"
        return Task(id=task_id, arm="baseline", key=task_id, job=job, needed=True)

    def _note(self, name: str, trial: Entry) -> None:
        self.baseline[name] = trial.result or {}
        yardsticks = {"R2", *(f"R2/{epochs}" for epochs in self._rungs[:-1])}
        if name in yardsticks and yardsticks <= set(self.baseline):
            self._search(self.baseline)

    def _search(self, baseline: dict[str, dict[str, Any]]) -> None:
        around, config = surroundings(self.space), self.config
        for arm, priority in (("evolve", SEARCH), ("random", CONTROL)):
            search = Search(
                arm=arm,
                run_path=self._path,
                scratch=self._scratch,
                seed=config.seed,
                around=around,
                inherit=config.inherit,
            )
            self._searches[arm] = search
            open_arm(
                search,
                config,
                self.space.splits,
                baseline,
                self._agenda,
                self._ledger,
                priority=priority,
                done=partial(self._after_search, arm),
            ).advance()

    def _after_search(self, arm: str, found: list[Contender]) -> None:
        if not found:
            halved = self.config.halving is not None and arm == "evolve"
            rungs_told = "or got to the last rung " if halved else ""
            raise RunError(
                f"no candidate of the arm '{arm}' succeeded {rungs_told}at trial budget: see the "
                "ledger's reasons"
            )
        if self.reference.left_out:
            name, accuracy = "R's validation accuracy", self.prepared["accuracy"]
        else:
            name, accuracy = "R's architecture at trial budget", self.baseline["R2"]["accuracy"]
        yardstick = Yardstick(name, accuracy, self.config.tolerance)
        order = ranked(found, yardstick.threshold)
        choice = Choice(order[0], yardstick, len(found))
        if self.config.promote:
            self._promote(arm, order[: self.config.promote], choice)
        else:
            self._choose(arm, choice)

    def _promote(self, arm: str, promoted: list[Contender], otherwise: Choice) -> None:
        """Try the best again at the finalists' budget; the rule then chooses among them.

        Where every such trial fails, the choice is `otherwise`, made from the trials alone; not
        where those inherited.
        """
        results: dict[int, Entry] = {}

        def then(trial: Entry) -> None:
            results[int(trial.payload["number"])] = trial
            if len(results) < len(promoted):
                return
            again = [
                Contender(each.candidate, result)
                for each in promoted
                if (result := results[each.candidate.number].result) is not None
            ]
            yardstick = Yardstick(
                "R's validation accuracy", self.prepared["accuracy"], self.config.tolerance
            )
            order = ranked(again, yardstick.threshold)
            if not order and self.config.inherit and self.config.halving is None:
                raise RunError(
                    f"every promoted candidate of the arm '{arm}' failed, and the others have "
                    "inherited: see the ledger's reasons"
                )
            self._choose(arm, Choice(order[0], yardstick, len(again)) if order else otherwise)

        for each in promoted:
            task = promotion_task(self._searches[arm], each.candidate)
            self._agenda.add(task, then, priority=CHOSEN)

    def _choose(self, arm: str, choice: Choice) -> None:
        genotype = choice.chosen.candidate.genotype
        blueprint = Recipe({"family": "blueprint", "blueprint": genotype.blueprint().to_dict()})
        for player in ARMS[arm]:
            self.choices[player] = choice
            self._finals.enter(player, blueprint, genotype.key(), priority=CHOSEN)
