"""What a driver costs beside its trials: executors, generations, ledger, memory."""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from evolution.objectives import parse_objectives
from evolution.space import SearchSpace
from evolution.strategies import SearchSettings
from experiments.benchmarks.timing import Claim
from experiments.evolve.agenda import Agenda
from experiments.evolve.arm import SearchArm
from experiments.evolve.steady import SteadyArm
from experiments.evolve.trying import Search
from robustkit.compute.executors import Executor, open_executor
from robustkit.runs import Ledger, Trial

NOTHINGS, TRIALS = 2000, 3200
WORKERS, SHORTEST, LONGEST = 4, 0.1, 1.0  # seconds of a trial, spread 1:10
SMALL, LARGE = 10_000, 1_000_000
SETTINGS = SearchSettings(
    space=SearchSpace(min_blocks=1, max_blocks=3, max_params=50_000, max_macs=2_000_000),
    input_shape=(1, 8, 8),
    num_classes=3,
    objectives=parse_objectives("accuracy:max,transfer:min,macs:min"),
    population=16,
    generations=8,
    screen=1,
)


@dataclass(frozen=True)
class Nothing:
    """A job that does nothing."""

    number: int

    def run(self) -> int:
        """Its number."""
        return self.number


@dataclass(frozen=True)
class Wait:
    """A trial that sleeps as long as its seed says, and makes its figures up."""

    seed: int
    shortest: float
    longest: float

    def run(self) -> dict[str, float]:
        """Figures of a trial."""
        rng = random.Random(self.seed)
        share = rng.random()
        if self.longest:
            time.sleep(self.shortest * (self.longest / self.shortest) ** share)
        names = ("accuracy", "transfer", "macs", "params", "cos_abs", "grad_norm")
        return {name: rng.random() for name in names}


def claims() -> Iterator[Claim]:
    """Executors on jobs that do nothing; idle workers; the ledger at two sizes; memory."""
    for name, workers in (("inline", 1), ("processes", 2), ("ray", 2)):
        yield _per_job(name, workers)
    idle = {mode: _idle(mode) for mode in ("steady", "generational")}
    yield Claim(
        "idle share of workers, steady, trials 1:10",
        idle["steady"],
        0.05,
        at_most=True,
        unit="%",
        detail=f"generational {100 * idle['generational']:.0f} %, {WORKERS} workers, "
        f"{SETTINGS.budget} trials",
    )
    yield from _driver()
    yield from _ledger()


def _per_job(name: str, workers: int) -> Claim:
    with open_executor(name, workers=workers) as executor:
        list(executor.run(iter([Nothing(0), Nothing(1)])))  # workers start
        start = time.perf_counter()
        list(executor.run(iter([Nothing(number) for number in range(NOTHINGS)])))
        each = (time.perf_counter() - start) / NOTHINGS
    return Claim(f"driver's time for a job that does nothing, {name}", 1e3 * each, None, True, "ms")


def _idle(mode: str) -> float:
    """The share of the workers' time without a trial, from the first's start to the last's end.

    The last stretch, in which there are fewer trials left than workers, is part of any search and
    left out: measured is until the last trial is handed out.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        Ledger.create(Path(folder) / "ledger.sqlite") as ledger,
        open_executor("processes", workers=WORKERS) as executor,
    ):
        list(executor.run(iter([Nothing(number) for number in range(4 * WORKERS)])))
        timed = _Timed(executor)
        agenda = Agenda(timed, ledger, lambda trial: None)
        _arm(mode, agenda, SETTINGS).advance()
        agenda.work()
        return timed.idle()


def _arm(mode: str, agenda: Agenda, settings: SearchSettings) -> SearchArm | SteadyArm:
    common: dict[str, Any] = {"priority": 0, "done": lambda found: None}
    search = Search(arm="evolve", run_path="run", seed=0)
    place = (search, "nsga2", settings, agenda)
    if mode == "steady":
        return SteadyArm(*place, in_flight=WORKERS, recorded=(), **common)
    return SearchArm(*place, **common)


def _driver() -> Iterator[Claim]:
    """A steady search whose trials take no time: what is left is the driver's own work."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Ledger.create(Path(folder) / "ledger.sqlite") as ledger,
        open_executor("inline") as executor,
    ):
        agenda = Agenda(_Timed(executor, shortest=0, longest=0), ledger, lambda trial: None)
        many = replace(SETTINGS, generations=TRIALS // SETTINGS.population)
        before, start = _memory(), time.perf_counter()
        _arm("steady", agenda, many).advance()
        agenda.work()
        seconds, grown = time.perf_counter() - start, _memory() - before
    detail = f"{many.budget} trials of a steady search, ledger included"
    yield Claim("driver's time of a trial", 1e3 * seconds / many.budget, None, True, "ms", detail)
    yield Claim(
        "driver's memory of a trial", grown / many.budget / 1024, None, True, " KiB", detail
    )


def _memory() -> int:
    return int(psutil.Process(os.getpid()).memory_info().rss)


class _Timed:
    """An executor that waits instead of training, and notes when jobs began and ended."""

    def __init__(
        self, executor: Executor, shortest: float = SHORTEST, longest: float = LONGEST
    ) -> None:
        self._executor, self._span = executor, (shortest, longest)
        self._handed: list[float] = []
        self._busy: list[tuple[float, float]] = []
        self._real: dict[int, Any] = {}

    def run(self, jobs: Iterator[Any]) -> Iterator[Any]:
        """As the executor's own, with a wait in the place of each job."""

        def waits() -> Iterator[Any]:
            for job in jobs:
                if job is None:
                    yield None
                    continue
                wait = Wait(job.seed, *self._span)
                self._real[id(wait)] = job
                self._handed.append(time.perf_counter())
                yield wait

        for wait, outcome in self._executor.run(waits()):
            now = time.perf_counter()
            self._busy.append((now - outcome.seconds, now))
            yield self._real.pop(id(wait)), outcome

    def share(self, name: str, make: Any) -> None:
        """As the executor's own."""
        self._executor.share(name, make)

    def idle(self) -> float:
        """See `_idle`."""
        start, end = self._handed[0], self._handed[-1]
        busy = sum(max(0.0, min(b, end) - max(a, start)) for a, b in self._busy)
        return 1 - busy / (WORKERS * (end - start))

    def __enter__(self) -> _Timed:
        return self

    def __exit__(self, *exception: object) -> None:
        """The executor is its owner's."""


def _ledger() -> Iterator[Claim]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.sqlite"
        before = _memory()
        with Ledger.create(path) as ledger:
            _fill(ledger, 0, SMALL)
            small = _ask_and_tell(ledger, SMALL)
            _fill(ledger, 2 * SMALL, LARGE)
            large = _ask_and_tell(ledger, LARGE)
        grown = _memory() - before
        size = path.stat().st_size
        start = time.perf_counter()
        with Ledger.open(path):
            opened = time.perf_counter() - start
    yield Claim(
        "ledger: get and record at 1,000,000 trials against 10,000",
        large / small,
        2.0,
        at_most=True,
        detail=f"{1e3 * small:.2f} and {1e3 * large:.2f} ms",
    )
    yield Claim(
        "ledger: memory added by 1,000,000 trials on the disk",
        grown / 2**20,
        64.0,
        at_most=True,
        unit=" MiB",
        detail=f"file {size / 2**20:.0f} MiB, opened and checked in {opened:.1f} s",
    )


def _fill(ledger: Ledger, first: int, last: int) -> None:
    """Trials in one transaction: what is measured is not how fast they came."""
    with ledger._transaction() as connection:
        rows = (
            (f"evolve/{n:08}", "evolve", f"k{n}", '{"number": 1}', "Ok", "", RESULT, 1.0, n + 1)
            for n in range(first, last)
        )
        connection.executemany(f"INSERT INTO trials VALUES ({'?, ' * 8}?)", rows)


RESULT = '{"accuracy": 0.5, "macs": 100000, "params": 1000, "transfer": 0.25}'


def _ask_and_tell(ledger: Ledger, first: int, count: int = 300) -> float:
    start = time.perf_counter()
    for number in range(first, first + count):
        name = f"evolve/{number:08}"
        assert ledger.get(name) is None
        payload = {"number": number}
        ledger.record(
            Trial(id=name, arm="evolve", key=name, payload=payload, outcome="Ok", result=payload)
        )
    return (time.perf_counter() - start) / count
