"""One simulated search as a job."""

from __future__ import annotations

import math
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from evolution.objectives import parse_objectives
from evolution.space import SearchSpace
from evolution.strategies import SearchSettings
from experiments.evolve import trying
from experiments.evolve.agenda import Agenda
from experiments.evolve.arm import SearchArm
from experiments.evolve.steady import SteadyArm
from experiments.reproduce.asynchrony.result import Searched
from experiments.reproduce.simulated import SimulatedWorkers, macs_of
from robustkit.compute import Ok
from robustkit.runs import Ledger

SHAPE, CLASSES = (3, 32, 32), 10
NOISE = ("accuracy", "transfer", "cos_abs", "grad_norm")


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

    kind: ClassVar[Any] = Searched

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
        workers = SimulatedWorkers(self.workers, cost, noise)
        with (
            tempfile.TemporaryDirectory() as folder,
            Ledger.create(Path(folder) / "ledger.sqlite") as ledger,
        ):
            agenda = Agenda(workers, ledger, lambda trial: None)
            search = trying.Search(arm="evolve", run_path="run", seed=self.seed)
            place = (search, self.strategy, settings, agenda)
            common: dict[str, Any] = {"priority": 0, "done": lambda found: None}
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


def cost(job: Any) -> int:
    """A trial takes as long as its net computes."""
    return macs_of(job, SHAPE, CLASSES)


def noise(job: Any) -> Ok:
    """What a trial reports depends on its seed alone, and not on the net.

    So whatever a search prefers in nets, it has from when trials end.
    """
    rng = random.Random(job.seed)
    return Ok({name: rng.random() for name in NOISE} | {"macs": cost(job), "params": 1})


def geometric_mean(values: list[int]) -> float:
    """exp of the mean logarithm."""
    return math.exp(sum(map(math.log, values)) / len(values))
