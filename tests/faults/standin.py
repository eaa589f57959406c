"""A search whose trials take milliseconds: real strategy, scheduler, ledger and run folder."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evolution.objectives import parse_objectives
from evolution.protocol.search import CandidateTasks, Search
from evolution.runner import Scheduler, generational
from evolution.space import SearchSpace
from evolution.strategies import SearchSettings, open_strategy
from robustkit.errors import RobustkitError
from robustkit.jobs import Executor, open_executor
from robustkit.runs import Ledger, RunFolder

SECONDS = 0.004  # of a trial
SETTINGS = SearchSettings(
    space=SearchSpace(min_blocks=1, max_blocks=2, max_params=50_000, max_macs=2_000_000),
    input_shape=(1, 8, 8),
    num_classes=3,
    objectives=parse_objectives("accuracy:max,transfer:min,macs:min"),
    population=8,
    generations=6,
    screen=1,
)


@dataclass(frozen=True)
class MadeUp:
    """A trial's figures, made up from its seed; every tenth fails."""

    seed: int

    def run(self) -> dict[str, float]:
        from robustkit.jobs import DivergedError

        rng = random.Random(self.seed)
        time.sleep(SECONDS * (0.2 + rng.random()))
        if rng.random() < 0.1:
            raise DivergedError("made up")
        names = ("accuracy", "transfer", "macs", "params", "cos_abs", "grad_norm")
        return {name: rng.random() for name in names}


class _MakingUp:
    """An executor that makes results up instead of training, and counts what it was given."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self.count = 0

    def run(self, jobs: Iterator[Any]) -> Iterator[Any]:
        real: dict[int, Any] = {}

        def made_up() -> Iterator[Any]:
            for job in jobs:
                if job is None:
                    yield None
                    continue
                self.count += 1
                other = MadeUp(job.seed)
                real[id(other)] = job
                yield other

        for other, outcome in self._executor.run(made_up()):
            yield real.pop(id(other)), outcome

    def share(self, name: str, make: Any) -> None:
        pass

    def __enter__(self) -> _MakingUp:
        return self

    def __exit__(self, *exception: object) -> None:
        pass


def search(path: Path, executor: str = "inline", workers: int = 1) -> int:
    """Begin the run at `path` or go on with it, as a verb does; returns its exit code."""
    try:
        begun = (path / "config.yaml").exists()
        folder = (
            RunFolder.open(path)
            if begun
            else RunFolder.create(path, command="evolve", config={"seed": 0}, argv=[])
        )
        with ExitStack() as stack:
            stack.enter_context(folder.lock())
            if folder.summary() is not None:
                return 0
            file = folder.file("ledger.sqlite")
            ledger = Ledger.open(file) if file.exists() else Ledger.create(file)
            stack.enter_context(ledger)
            opened = stack.enter_context(open_executor(executor, workers=workers))
            making = _MakingUp(opened)
            scheduler = Scheduler(making, ledger)
            tasks = CandidateTasks(Search(name="evolve", run_path=str(path), seed=1))
            strategy = open_strategy("nsga2", SETTINGS)
            scheduler.run(generational(strategy, scheduler, tasks.trial))
            folder.append_metrics({"ran": making.count})
            folder.write_summary({"trials": len(ledger.trials())})
    except RobustkitError as error:
        print(f"robustkit: error: {error}", file=sys.stderr)
        return 2
    return 0
