"""The job of the study, a simulated search; its result, and the summary of all."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Annotated, Any

from msgspec import Meta

from evolution.objectives import parse_objectives
from evolution.protocol.search import CandidateTasks, Search
from evolution.runner import Scheduler, generational, steady
from evolution.space import SearchSpace
from evolution.strategies import SearchSettings, open_strategy
from experiments.studies.base import StudyJob, StudySummary
from experiments.studies.simulated import SimulatedWorkers, macs_of
from robustkit.jobs import Ok
from robustkit.runs.summaries import Amount, Positive, Result, check_has

SHAPE, CLASSES = (3, 32, 32), 10
NOISE = ("accuracy", "transfer", "cos_abs", "grad_norm")

Log2 = Annotated[float, Meta(ge=-64, le=64)]
Seeds = Annotated[dict[str, Log2], Meta(min_length=1)]
Cells = dict[str, Seeds]
"""By number of workers."""


class Searched(Result, frozen=True, kw_only=True):
    """Mean operations of the nets that a search sampled and bred, and their spread."""

    sampled: Positive
    bred: Positive
    spread: Amount


class Summary(StudySummary, frozen=True, kw_only=True):
    """log₂ of ratios by strategy, workers and seed; the largest spread of a search's operations."""

    log2_ratio: dict[str, Cells]
    spread: Amount


def check(summary: Summary, where: str, workers: tuple[str, ...]) -> None:
    """Raise `RunError` where a strategy lacks one of the numbers of workers."""
    for strategy, cells in summary.log2_ratio.items():
        check_has(cells, workers, f"{where}: log2_ratio.{strategy}")


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

    def run(self) -> Searched:
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
        return Searched(
            sampled=geometric_mean(sampled),
            bred=geometric_mean(bred),
            spread=max(macs.values()) / min(macs.values()),
        )


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
