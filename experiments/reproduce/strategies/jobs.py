"""The work of the study as jobs: prepare R for a seed; a whole search, and its nets judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from evolution.halving import rungs
from experiments.evolve.agenda import Agenda
from experiments.evolve.arms import open_arm
from experiments.evolve.config import EvolveConfig
from experiments.evolve.identity import surroundings
from experiments.evolve.jobs import PrepareReference, TrainNet
from experiments.evolve.players import architecture
from experiments.evolve.trying import Search
from experiments.evolve.workspace import Workspace
from experiments.reproduce.simulated import SimulatedWorkers, macs_of
from experiments.reproduce.strategies.judging import judge_moments, measured
from experiments.reproduce.strategies.places import (
    BASELINE,
    baseline_of,
    place_beside,
    prepare_place,
    small_images,
)
from experiments.reproduce.strategies.result import Reference, Spent
from experiments.reproduce.strategies.settings import WORKERS, common, config_of, lowest_epochs
from robustkit.compute import derive_seed
from robustkit.compute.executors.base import attempt
from robustkit.runs import Ledger


@dataclass(frozen=True)
class Prepare:
    """Train R, keep its gradients and adversarials, try its architecture at every budget."""

    id: str
    path: str
    seed: int
    smoke: bool
    timeout: float | None = None

    kind: ClassVar[Any] = Reference

    def run(self) -> dict[str, Any]:
        """R's architecture on validation by epochs, and retrained and judged as the others are."""
        root = Path(self.path)
        source = "digits" if self.smoke else small_images(root / f"cifar10-{self.seed}.npz")
        config = common(self.seed, smoke=self.smoke)
        space = prepare_place(root / f"R-{self.seed}", config, source)
        own, run_path = architecture("R", config.reference, space), str(space.folder.path)

        def train(part: str, **of: Any) -> dict[str, Any]:
            seed = derive_seed(self.seed, "reference", part)
            return TrainNet(run_path, own, seed, part, penalised=False, **of).run()

        train("train", final=True, name="R")
        PrepareReference(run_path).run()
        found = {
            str(epochs): train("trial", final=False, scored=True, epochs=epochs)
            for epochs in lowest_epochs(config)
        }
        space.folder.write_json(BASELINE, found)
        train("trial", final=False, name="R2", epochs=config.epochs)
        names = ("accuracy", "transfer", "macs")
        validation = {epochs: {name: of[name] for name in names} for epochs, of in found.items()}
        return {"validation": validation, "judged": measured(space.net("R2"), space)}


@dataclass(frozen=True)
class SearchAndJudge:
    """One search beside the prepared R, on simulated workers, and its nets judged on the way."""

    id: str
    path: str
    search: str
    seed: int
    smoke: bool
    timeout: float | None = None

    kind: ClassVar[Any] = Spent

    def run(self) -> dict[str, Any]:
        """What was spent, in trials and in operations; see `judge_moments` for the rest."""
        base = common(self.seed, smoke=self.smoke)
        config = config_of(self.search, base)
        prepared = Path(self.path) / f"R-{self.seed}"
        path = Path(self.path) / f"{self.search.replace(' ', '-')}-{self.seed}"
        space = place_beside(prepared, path, config)
        lower = [] if config.halving is None else rungs(config.epochs, config.halving)[:-1]
        tried = baseline_of(prepared, [config.epochs, *lower])
        baseline = {"R2": tried[config.epochs], **{f"R2/{each}": tried[each] for each in lower}}
        with Ledger.create(space.folder.file("ledger.sqlite")) as ledger:
            time = self._search(config, space, baseline, ledger)
            trials = ledger.in_order()
        spent = sum(trial.payload.get("epochs", config.epochs) for trial in trials)
        found = {
            "trials": len(trials),
            "failed": sum(trial.outcome != "Ok" for trial in trials),
            "epochs": spent,
            "time": time,
            "moments": judge_moments(trials, config, base, baseline, space),
        }
        space.clear_scratch()
        return found

    def _search(
        self,
        config: EvolveConfig,
        space: Workspace,
        baseline: Mapping[str, Mapping[str, Any]],
        ledger: Ledger,
    ) -> float:
        """Run it; the simulated time it took, in epochs of R's operations."""
        shape, classes = space.splits.train.shape, space.splits.train.num_classes

        def duration(job: TrainNet) -> float:
            epochs = config.epochs if job.epochs is None else job.epochs
            return epochs * macs_of(job, shape, classes) / float(baseline["R2"]["macs"])

        workers = SimulatedWorkers(WORKERS, duration, attempt)
        agenda = Agenda(workers, ledger, lambda trial: None)
        search = Search(
            arm="evolve",
            run_path=str(space.folder.path),
            seed=derive_seed(self.seed, "search"),
            around=surroundings(space),
            inherit=config.inherit,
        )
        open_arm(
            search,
            config,
            space.splits,
            baseline,
            agenda,
            ledger,
            priority=0,
            done=lambda found: None,
        ).advance()
        agenda.work()
        return workers.now
