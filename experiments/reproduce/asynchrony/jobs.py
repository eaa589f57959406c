"""One simulated search as a job."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evolution.objectives import parse_objectives
from evolution.space import SearchSpace
from evolution.strategies import SearchSettings
from experiments.evolve.agenda import Agenda
from experiments.evolve.arm import SearchArm
from experiments.evolve.steady import SteadyArm
from experiments.reproduce.asynchrony.simulated import SimulatedWorkers, geometric_mean
from robustkit.runs import Ledger

SHAPE, CLASSES = (3, 32, 32), 10


@dataclass(frozen=True)
class Search:
    """A search by `strategy` in `mode` with so many workers, its objectives being noise."""

    id: str
    strategy: str
    mode: str
    workers: int
    population: int
    generations: int
    seed: int
    timeout: float | None = None

    def run(self) -> dict[str, Any]:
        """Geometric means of operations: of the nets that were sampled first, and that were bred;
        and how much longer the largest trial lasted than the smallest."""
        settings = SearchSettings(
            space=SearchSpace(max_params=400_000),
            input_shape=SHAPE,
            num_classes=CLASSES,
            objectives=parse_objectives("accuracy:max,transfer:min"),
            population=self.population,
            generations=self.generations,
            seed=self.seed,
            screen=1,
        )
        workers = SimulatedWorkers(self.workers, SHAPE, CLASSES)
        with (
            tempfile.TemporaryDirectory() as folder,
            Ledger.create(Path(folder) / "ledger.sqlite") as ledger,
        ):
            agenda = Agenda(workers, ledger, lambda trial: None)
            place = ("evolve", self.strategy, settings, "run", agenda)
            common: dict[str, Any] = {"seed": self.seed, "priority": 0, "done": lambda found: None}
            if self.mode == "steady":
                SteadyArm(*place, in_flight=self.workers, recorded=(), **common).advance()
            else:
                SearchArm(*place, **common).advance()
            agenda.work()
            trials = ledger.trials()
        macs = {trial.payload["number"]: int((trial.result or {})["macs"]) for trial in trials}
        bred = [value for number, value in macs.items() if number >= self.population]
        sampled = [value for number, value in macs.items() if number < self.population]
        return {
            "sampled": geometric_mean(sampled),
            "bred": geometric_mean(bred),
            "spread": max(macs.values()) / min(macs.values()),
        }
