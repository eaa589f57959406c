"""One simulated search as a job."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any

from evolution.objectives import parse_objectives
from evolution.protocol.search import CandidateTasks, Search
from evolution.runner import Scheduler, generational, steady
from evolution.space import SearchSpace
from evolution.strategies import SearchSettings, open_strategy
from experiments.studies.asynchronous_bias.result import Searched
from experiments.studies.base import Json, StudyJob
from experiments.studies.simulated import SimulatedWorkers, macs_of
from robustkit.jobs import Ok

SHAPE, CLASSES = (3, 32, 32), 10
NOISE = ("accuracy", "transfer", "cos_abs", "grad_norm")


@dataclass(frozen=True)
class SimulatedSearch(StudyJob):
    """A search by `strategy` in `mode` with so many workers, its objectives being noise."""

    strategy: str
    mode: str
    workers: int
    population: int
    generations: int
    seed: int

    kind = Searched

    def run(self) -> Json:
        """Return mean operations of the sampled and of the bred nets, and their spread."""
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
        scheduler, strategy = Scheduler(workers), open_strategy(self.strategy, settings)
        trial_of = CandidateTasks(Search(name="evolve", run_path="run", seed=self.seed)).trial
        if self.mode == "steady":
            running = steady(strategy, scheduler, trial_of, in_flight=self.workers)
        else:
            running = generational(strategy, scheduler, trial_of)
        trials = sorted(scheduler.run(running), key=lambda trial: trial.number)
        macs = {trial.number: int((trial.values or {})["macs"]) for trial in trials}
        bred = [value for number, value in macs.items() if number >= self.population]
        sampled = [value for number, value in macs.items() if number < self.population]
        return {
            "sampled": geometric_mean(sampled),
            "bred": geometric_mean(bred),
            "spread": max(macs.values()) / min(macs.values()),
        }


def cost(job: Any) -> int:
    """Return the time of a trial: the operations of its net."""
    return macs_of(job, SHAPE, CLASSES)


def noise(job: Any) -> Ok:
    """Return random values that depend on the trial's seed alone, and not on the net.

    So whatever a search prefers in nets, it has from when trials end.
    """
    rng = random.Random(job.seed)
    return Ok({name: rng.random() for name in NOISE} | {"macs": cost(job), "params": 1})


def geometric_mean(values: list[int]) -> float:
    """Return exp of the mean logarithm."""
    return math.exp(sum(map(math.log, values)) / len(values))
