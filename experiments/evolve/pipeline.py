"""The experiment from the reference to the verdicts, as tasks that make each other possible.

R and the surrogate are trained; R's gradients and adversarials are prepared; R's architecture is
tried at trial budget, which sets the search's yardstick; the search and its random control run;
the chosen nets and all controls are trained and judged. Nothing waits for a phase to end that it
does not depend on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from evolution.strategies import SearchSettings
from experiments.evolve.agenda import Agenda, Task, Then
from experiments.evolve.arm import SearchArm, promotion_task
from experiments.evolve.jobs import JudgeNet, PrepareReference, TrainNet
from experiments.evolve.selection import RULE, Choice, Contender, ranked
from experiments.evolve.workspace import Workspace
from robustkit import models
from robustkit.compute import derive_seed
from robustkit.compute.executors import Executor
from robustkit.errors import RunError
from robustkit.runs import Ledger, Trial

# Nets of the final comparison: name, and whether it is trained with the penalty.
PLAYERS = {"R2": False, "Rp": True, "E": True, "E0": False, "RS": True}
ARMS = {"evolve": ("E", "E0"), "random": ("RS",)}

# Smaller goes first: what others wait for, then the searches, then what merely has to be done.
FIRST, SEARCH, CHOSEN, CONTROL, FILLER = range(5)


class Evolution:
    """One run. `run()` works until every net is judged; `choices` and `prepared` are then set."""

    def __init__(
        self,
        space: Workspace,
        executor: Executor,
        ledger: Ledger,
        on_trial: Callable[[Trial], None],
    ) -> None:
        self.space, self.config = space, space.config
        self.run_path = str(space.folder.path)
        self.agenda = Agenda(executor, ledger, on_trial)
        self.choices: dict[str, Choice] = {}
        self.prepared: dict[str, Any] = {}
        self.baseline: dict[str, Any] = {}
        self._trained: set[str] = set()
        self._judged: set[str] = set()

    def run(self) -> None:
        """Everything, from wherever the ledger says the run has come to."""
        self.space.scratch.mkdir(exist_ok=True)
        _ = self.space.views  # written here, once, before the workers map it
        self._start_reference()
        surrogate = self._train("S", self._architecture(self.config.surrogate), penalised=False)
        self.agenda.add(surrogate, self._needed(self._after_surrogate), priority=FIRST)
        self._start_finalists("R2", self._reference_architecture(), "reference")
        self.agenda.work()
        for name in PLAYERS:
            if not any(judged.split("-")[0] == name for judged in self._judged):
                raise RunError(
                    f"no training of {name} succeeded; see the ledger in {self.run_path}"
                )

    # The reference, and what has to be known of it before anything can be compared with it.

    def _start_reference(self) -> None:
        given = given_reference(self.space)
        if given is None:
            task = self._train("R", self._reference_architecture(), penalised=False)
            self.agenda.add(task, self._needed(self._after_reference), priority=FIRST)
            return
        self.space.net_path("R").parent.mkdir(exist_ok=True)
        if not self.space.net_path("R").is_file():
            models.save(given, self.space.net_path("R"))
        self._prepare()

    def _after_reference(self, trial: Trial) -> None:
        self._prepare()

    def _prepare(self) -> None:
        task = Task(
            id="prepare", arm="reference", key="prepare", job=PrepareReference(self.run_path)
        )
        self.agenda.add(task, self._needed(self._after_preparation), priority=FIRST)

    def _after_preparation(self, trial: Trial) -> None:
        self.prepared = trial.result or {}
        self._judge("R")
        for name in ("R2", "Rp"):
            task = self._baseline_task(name)
            then = self._after_baseline if name == "R2" else self._note_baseline
            self.agenda.add(task, self._needed(then), priority=FIRST)
        self._start_finalists("Rp", self._reference_architecture(), "reference")

    def _baseline_task(self, name: str) -> Task:
        """R's architecture at trial budget: what a candidate would do if it were R2 or R'."""
        job = TrainNet(
            run_path=self.run_path,
            architecture=self._reference_architecture(),
            seed=derive_seed(self.config.seed, "reference", 0),
            part="trial",
            penalised=PLAYERS[name],
            final=False,
            scored=True,
        )
        return Task(id=f"baseline/{name}", arm="baseline", key=f"baseline/{name}", job=job)

    def _note_baseline(self, trial: Trial) -> None:
        self.baseline[trial.id.split("/")[1]] = trial.result

    # The searches.

    def _after_baseline(self, trial: Trial) -> None:
        self._note_baseline(trial)
        accuracy = self.baseline["R2"]["accuracy"]
        settings = SearchSettings(
            space=self.config.space(),
            input_shape=self.space.splits.train.shape,
            num_classes=self.space.splits.train.num_classes,
            objectives=self.config.objectives_above(accuracy),
            population=self.config.population,
            generations=self.config.generations,
            seed=derive_seed(self.config.seed, "search"),
        )
        strategies = {"evolve": self.config.strategy, "random": "random"}
        for arm, priority in (("evolve", SEARCH), ("random", CONTROL)):
            SearchArm(
                arm,
                strategies[arm],
                settings,
                self.run_path,
                self.config,
                self.agenda,
                priority=priority,
                done=lambda found, arm=arm: self._after_search(arm, found),  # type: ignore[misc]
            ).advance()

    def _after_search(self, arm: str, found: list[Contender]) -> None:
        if not found:
            raise RunError(f"no candidate of the arm '{arm}' succeeded; see the ledger's reasons")
        baseline = self.baseline["R2"]["accuracy"]
        order = ranked(found, baseline - self.config.tolerance)
        if not self.config.promote:
            yardstick = "R's architecture at trial budget"
            self._choose(arm, order[0], len(found), yardstick, baseline)
            return
        promoted = order[: self.config.promote]
        results: dict[int, Trial] = {}

        def then(trial: Trial) -> None:
            results[int(trial.payload["number"])] = trial
            if len(results) == len(promoted):
                self._after_promotion(arm, promoted, results)

        for each in promoted:
            task = promotion_task(arm, each.candidate, self.run_path, self.config.seed)
            self.agenda.add(task, then, priority=CHOSEN)

    def _after_promotion(
        self, arm: str, promoted: list[Contender], results: dict[int, Trial]
    ) -> None:
        contenders = [
            Contender(each.candidate, result)
            for each in promoted
            if (result := results[each.candidate.number].result) is not None
        ]
        # Where every promotion failed, the trials' order is all there is to go by.
        baseline = float(self.prepared["accuracy"])
        order = ranked(contenders, baseline - self.config.tolerance) or promoted
        self._choose(arm, order[0], len(promoted), "R's validation accuracy", baseline)

    def _choose(
        self, arm: str, chosen: Contender, considered: int, yardstick: str, baseline: float
    ) -> None:
        rule = RULE.format(
            threshold=baseline - self.config.tolerance,
            yardstick=yardstick,
            baseline=baseline,
            tolerance=self.config.tolerance,
        )
        genotype = chosen.candidate.genotype
        architecture = {"family": "blueprint", "blueprint": genotype.blueprint().to_dict()}
        for name in ARMS[arm]:
            self.choices[name] = Choice(chosen, rule, considered)
            self._start_finalists(name, architecture, genotype.key())

    # The finalists and the verdicts.

    def _start_finalists(self, name: str, architecture: dict[str, Any], key: str) -> None:
        priority = CHOSEN if name in ("E", "E0", "RS") else FILLER
        for number in range(self.config.final_seeds):
            job = TrainNet(
                run_path=self.run_path,
                architecture=architecture,
                # Nets of one architecture start from the same weights with and without penalty.
                seed=derive_seed(self.config.seed, key, "final", number),
                part="all",
                penalised=PLAYERS[name],
                final=True,
                name=f"{name}-{number}",
            )
            task = Task(id=f"final/{job.name}", arm="final", key=f"final/{job.name}", job=job)
            self.agenda.add(task, self._after_finalist, priority=priority)

    def _after_finalist(self, trial: Trial) -> None:
        if trial.outcome == "Ok":
            self._trained.add(trial.id.split("/")[1])
            self._judge_ready()

    def _after_surrogate(self, trial: Trial) -> None:
        self._trained.add("S")
        self._judge("R")

    def _judge(self, name: str) -> None:
        """R first: on the way it crafts the adversarials that all others are judged by."""
        if name == "R" and self.prepared and "S" in self._trained and "R" not in self._judged:
            self._judged.add("R")
            self._add_judgement("R", self._after_reference_judged)

    def _after_reference_judged(self, trial: Trial) -> None:
        self._trained.add("R")
        self._judge_ready()

    def _judge_ready(self) -> None:
        if "R" not in self._trained:
            return
        for name in sorted(self._trained - self._judged - {"S"}):
            self._judged.add(name)
            self._add_judgement(name, lambda trial: None)

    def _add_judgement(self, name: str, then: Then) -> None:
        task = Task(
            id=f"judge/{name}", arm="judge", key=f"judge/{name}", job=JudgeNet(self.run_path, name)
        )
        self.agenda.add(task, self._needed(then), priority=FILLER)

    # Helpers.

    def _train(self, name: str, architecture: dict[str, Any], *, penalised: bool) -> Task:
        job = TrainNet(
            run_path=self.run_path,
            architecture=architecture,
            seed=derive_seed(self.config.seed, "net", name),
            part="train",
            penalised=penalised,
            final=True,
            name=name,
        )
        return Task(id=f"reference/{name}", arm="reference", key=f"reference/{name}", job=job)

    def _needed(self, then: Then) -> Then:
        """`then`, for a task without which the run cannot go on."""

        def checked(trial: Trial) -> None:
            if trial.outcome != "Ok":
                raise RunError(
                    f"{trial.id}: {trial.outcome} ({trial.reason}); the run cannot go on without it"
                )
            then(trial)

        return checked

    def _architecture(self, spec: str) -> dict[str, Any]:
        return resolve_net(spec, self.space).card.architecture

    def _reference_architecture(self) -> dict[str, Any]:
        return self._architecture(self.config.reference)


def given_reference(space: Workspace) -> models.Classifier | None:
    """The reference, if it is a trained one: a model file."""
    if not space.config.reference.endswith(".safetensors"):
        return None
    return resolve_net(space.config.reference, space)


def resolve_net(spec: str, space: Workspace) -> models.Classifier:
    """The net that `spec` names, checked against the run's data."""
    channels, size, _ = space.splits.train.shape
    mean, std = space.stats
    return models.resolve(
        spec,
        num_classes=space.splits.train.num_classes,
        in_channels=channels,
        image_size=size,
        classes=space.splits.train.classes,
        mean=mean,
        std=std,
        seed=0,
    )


def judged_names(trials: Iterable[Trial]) -> dict[str, list[str]]:
    """Names of the judged nets by player, in order: {"R": ["R"], "E": ["E-0", "E-1"], …}."""
    names: dict[str, list[str]] = {}
    for trial in trials:
        if trial.arm == "judge" and trial.outcome == "Ok":
            name = trial.id.split("/")[1]
            names.setdefault(name.split("-")[0], []).append(name)
    return names
