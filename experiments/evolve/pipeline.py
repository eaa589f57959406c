"""The experiment from the reference to the verdicts, as tasks that make each other possible.

R and the surrogate are trained; R's gradients and adversarials are prepared; R's architecture is
tried at trial budget, which sets the search's yardstick; the search and its random control run;
the chosen nets and all controls are trained and judged. Nothing waits for a phase to end that it
does not depend on.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from evolution.strategies import SearchSettings
from experiments.evolve.agenda import Agenda, Task
from experiments.evolve.arm import SearchArm, promotion_task
from experiments.evolve.config import EvolveConfig
from experiments.evolve.finals import Finals
from experiments.evolve.identity import reusable, surroundings
from experiments.evolve.jobs import PrepareReference, TrainNet
from experiments.evolve.players import ARMS, PLAYERS, architecture, keep_given_reference
from experiments.evolve.selection import Choice, Contender, Yardstick, ranked
from experiments.evolve.steady import SteadyArm
from experiments.evolve.workspace import REFERENCE, SURROGATE, Workspace
from robustkit.compute import derive_seed
from robustkit.compute.executors import Executor
from robustkit.data import Splits
from robustkit.errors import RunError
from robustkit.runs import Ledger, Trial

# Smaller goes first: what others wait for, then the searches, then what merely has to be done.
FIRST, SEARCH, CHOSEN, CONTROL, FILLER = range(5)


class Evolution:
    """One run. After `run()`, `prepared`, `baseline` and `choices` say what was found on the way.

    `prepared` is R's result of `PrepareReference`; `baseline` the trials of R's architecture
    without ("R2") and with the penalty ("Rp"); `choices` has the players E, E0 and RS for keys.
    """

    def __init__(
        self,
        space: Workspace,
        executor: Executor,
        ledger: Ledger,
        on_trial: Callable[[Trial], None],
    ) -> None:
        self.space, self.config = space, space.config
        self.prepared: dict[str, Any] = {}
        self.baseline: dict[str, dict[str, Any]] = {}
        self.choices: dict[str, Choice] = {}
        self._around = ""
        self._path = str(space.folder.path.resolve())
        self._executor, self._ledger = executor, ledger
        other = reusable(space.folder.config.get("reuse"))
        self._agenda = Agenda(executor, ledger, on_trial, other)
        self._finals = Finals(space, self._agenda, judging_priority=FILLER)
        self._reference = architecture(REFERENCE, self.config.reference, space)

    def run(self) -> None:
        """Everything, from wherever the ledger says the run has come to."""
        self.space.scratch.mkdir(exist_ok=True)
        self.space.net_path("R").parent.mkdir(exist_ok=True)
        self.space.share_images(self._executor)  # views are written once, before workers map them
        if keep_given_reference(self.space):
            self._prepare()
        else:
            self._train(REFERENCE, self._reference, lambda trial: self._prepare())
        surrogate = architecture(SURROGATE, self.config.surrogate, self.space)
        self._train(SURROGATE, surrogate, lambda trial: self._finals.ready("surrogate"))
        self._finals.enter("R2", self._reference, "reference", priority=FILLER)
        self._agenda.work()
        self._finals.check()

    def _train(
        self, name: str, architecture: dict[str, Any], then: Callable[[Trial], None]
    ) -> None:
        """Train R or the surrogate on the training split."""
        job = TrainNet(
            run_path=self._path,
            architecture=architecture,
            seed=derive_seed(self.config.seed, "net", name),
            part="train",
            penalised=False,
            final=True,
            name=name,
        )
        task_id = f"reference/{name}"
        task = Task(id=task_id, arm="reference", key=task_id, job=job, needed=True)
        self._agenda.add(task, then, priority=FIRST)

    def _prepare(self) -> None:
        job = PrepareReference(self._path)
        task = Task(id="prepare", arm="reference", key="prepare", job=job, needed=True)
        self._agenda.add(task, self._after_preparation, priority=FIRST)

    def _after_preparation(self, trial: Trial) -> None:
        self.prepared = trial.result or {}
        self.space.share_gradients(self._executor)
        self._around = surroundings(self.space)
        for name in ("R2", "Rp"):
            self._agenda.add(self._baseline_task(name), partial(self._note, name), priority=FIRST)
        self._finals.ready("reference")
        self._finals.enter("Rp", self._reference, "reference", priority=FILLER)

    def _baseline_task(self, name: str) -> Task:
        """R's architecture at trial budget: what a candidate would do if it were R2 or R'."""
        job = TrainNet(
            run_path=self._path,
            architecture=self._reference,
            seed=derive_seed(self.config.seed, "reference", 0),
            part="trial",
            penalised=PLAYERS[name],
            final=False,
            scored=True,
        )
        task_id = f"baseline/{name}"
        return Task(id=task_id, arm="baseline", key=task_id, job=job, needed=True)

    def _note(self, name: str, trial: Trial) -> None:
        self.baseline[name] = trial.result or {}
        if name == "R2":
            self._search(self.baseline[name]["accuracy"])

    def _search(self, baseline: float) -> None:
        settings = search_settings(
            self.config,
            self.space.splits,
            baseline=baseline,
            macs=self.baseline["R2"]["macs"],
        )
        strategies = {"evolve": self.config.strategy, "random": "random"}
        for arm, priority in (("evolve", SEARCH), ("random", CONTROL)):
            place = (arm, strategies[arm], settings, self._path, self._agenda)
            shared: dict[str, Any] = {
                "seed": self.config.seed,
                "around": self._around,
                "priority": priority,
                "done": partial(self._after_search, arm),
            }
            if self.config.mode == "steady":
                in_flight = self.config.in_flight or 1
                recorded = self._ledger.in_order(arm)
                SteadyArm(*place, in_flight=in_flight, recorded=recorded, **shared).advance()
            else:
                SearchArm(*place, **shared).advance()

    def _after_search(self, arm: str, found: list[Contender]) -> None:
        if not found:
            raise RunError(f"no candidate of the arm '{arm}' succeeded: see the ledger's reasons")
        yardstick = Yardstick(
            "R's architecture at trial budget",
            self.baseline["R2"]["accuracy"],
            self.config.tolerance,
        )
        order = ranked(found, yardstick.threshold)
        choice = Choice(order[0], yardstick, len(found))
        if self.config.promote:
            self._promote(arm, order[: self.config.promote], choice)
        else:
            self._choose(arm, choice)

    def _promote(self, arm: str, promoted: list[Contender], otherwise: Choice) -> None:
        """Try the best again at the finalists' budget; the rule then chooses among them.

        Where every such trial fails, the choice is `otherwise`, made from the trials alone.
        """
        results: dict[int, Trial] = {}

        def then(trial: Trial) -> None:
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
            self._choose(arm, Choice(order[0], yardstick, len(again)) if order else otherwise)

        for each in promoted:
            task = promotion_task(arm, each.candidate, self._path, self.config.seed, self._around)
            self._agenda.add(task, then, priority=CHOSEN)

    def _choose(self, arm: str, choice: Choice) -> None:
        genotype = choice.chosen.candidate.genotype
        blueprint = {"family": "blueprint", "blueprint": genotype.blueprint().to_dict()}
        for player in ARMS[arm]:
            self.choices[player] = choice
            self._finals.enter(player, blueprint, genotype.key(), priority=CHOSEN)


def search_settings(
    config: EvolveConfig, splits: Splits, *, baseline: float, macs: int
) -> SearchSettings:
    """What both searches start from.

    `baseline` is the accuracy that bounds feasibility, `macs` what R costs per image.
    """
    return SearchSettings(
        space=config.space(reference_macs=macs),
        input_shape=splits.train.shape,
        num_classes=splits.train.num_classes,
        objectives=config.objectives_above(baseline),
        population=config.population,
        generations=config.generations,
        screen=config.screen,
        seed=derive_seed(config.seed, "search"),
    )
