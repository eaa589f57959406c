"""What a driver costs beside its trials: executors, generations, ledger, memory."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evolution.objectives import parse_objectives
from evolution.protocol.search import CandidateTasks, Search
from evolution.runner import Scheduler, generational, steady
from evolution.space import SearchSpace
from evolution.strategies import SearchSettings, open_strategy
from experiments.benchmarks.peers import absent
from experiments.benchmarks.record import Record, Value, alone, amount, cost, skipped
from experiments.benchmarks.timing import in_fresh_process, resident
from robustkit.jobs import Executor, open_executor
from robustkit.runs import Entry, Ledger

NOTHINGS, TRIALS, ROUNDS = 2000, 3200, 3
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
        """Return its number."""
        return self.number


@dataclass(frozen=True)
class Wait:
    """A trial that sleeps as long as its seed says, and returns random values."""

    seed: int
    shortest: float
    longest: float

    def run(self) -> dict[str, float]:
        """Return values of a trial."""
        rng = random.Random(self.seed)
        share = rng.random()
        if self.longest:
            time.sleep(self.shortest * (self.longest / self.shortest) ** share)
        names = ("accuracy", "transfer", "macs", "params", "cos_abs", "grad_norm")
        return {name: rng.random() for name in names}


def records() -> Iterator[Record]:
    """Yield executors on jobs that do nothing; idle workers; the ledger at two sizes; memory."""
    for name, workers in (("inline", 1), ("processes", 2), ("ray", 2)):
        what = f"driver's time for a job that does nothing, {name}"
        why = absent("ray") if name == "ray" else ""
        yield skipped(what, why) if why else alone(what, _per_job(name, workers))
    for mode, most in (("steady", 0.05), ("generational", None)):
        idle, whole = _idle(mode)
        yield cost(
            f"idle share of {WORKERS} workers, {mode}, trials 1:10",
            Value("worker-seconds without a trial", "s", (idle,)),
            Value("of all", "s", (whole,)),
            at_most=most,
            note=f"{SETTINGS.budget} trials that sleep",
        )
    yield from _driver()
    yield from _ledger()


def _per_job(name: str, workers: int) -> Value:
    with open_executor(name, workers=workers) as executor:
        list(executor.run(iter([Nothing(0), Nothing(1)])))  # workers start
        values = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            list(executor.run(iter([Nothing(number) for number in range(NOTHINGS)])))
            values.append((time.perf_counter() - start) / NOTHINGS)
    return Value(f"a job, of {NOTHINGS:,}", "s", tuple(values))


def _idle(mode: str) -> tuple[float, float]:
    """Return the workers' seconds without a trial, and all of them, from start to last trial.

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
        _search(mode, Scheduler(timed, ledger), SETTINGS)
        return timed.idle()


def _search(mode: str, scheduler: Scheduler, settings: SearchSettings) -> None:
    strategy = open_strategy("nsga2", settings)
    tasks = CandidateTasks(Search(name="evolve", run_path="run", seed=0))
    if mode == "steady":
        scheduler.run(steady(strategy, scheduler, tasks.trial, in_flight=WORKERS))
    else:
        scheduler.run(generational(strategy, scheduler, tasks.trial))


def _driver() -> Iterator[Record]:
    """Yield a steady search whose trials take no time: what is left is the driver's own work."""
    seconds, grown = in_fresh_process(cost_of_trials)
    trials = f"{TRIALS:,} trials of a steady search, ledger included"
    yield alone("driver's time of a trial", Value("a trial", "s", (seconds,)), note=trials)
    yield alone(
        "driver's memory of a trial",
        Value("a trial", "bytes", (grown,)),
        note=f"{amount(grown * TRIALS, 'bytes')} for {trials}",
    )


def cost_of_trials(trials: int = TRIALS) -> tuple[float, float]:
    """Return the driver's seconds and bytes of a trial, over a search of `trials`.

    A first small search imports and builds what any search does.
    """
    _searched(SETTINGS)
    seconds, grown = _searched(replace(SETTINGS, generations=trials // SETTINGS.population))
    return seconds / trials, grown / trials


def _searched(settings: SearchSettings) -> tuple[float, int]:
    """Return seconds of a search, and the bytes that this process holds more at its end."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Ledger.create(Path(folder) / "ledger.sqlite") as ledger,
        open_executor("inline") as executor,
    ):
        scheduler = Scheduler(_Timed(executor, shortest=0, longest=0), ledger)
        before, start = resident(), time.perf_counter()
        _search("steady", scheduler, settings)
        return time.perf_counter() - start, resident() - before


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
        """Run jobs as the executor does, with a wait in the place of each."""

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
        """Share values as the executor does."""
        self._executor.share(name, make)

    def idle(self) -> tuple[float, float]:
        """Return the value of `_idle`."""
        start, end = self._handed[0], self._handed[-1]
        busy = sum(max(0.0, min(b, end) - max(a, start)) for a, b in self._busy)
        whole = WORKERS * (end - start)
        return whole - busy, whole

    def __enter__(self) -> _Timed:
        return self

    def __exit__(self, *exception: object) -> None:
        """Do nothing: the executor is closed where it was opened."""


def _ledger() -> Iterator[Record]:
    small, large, grown, size, opened = in_fresh_process(cost_of_ledger)
    yield cost(
        "ledger: to look up and record a trial",
        Value(f"among {LARGE:,}", "s", tuple(large)),
        Value(f"among {SMALL:,}", "s", tuple(small)),
        at_most=2.0,
    )
    yield alone(
        f"ledger: memory that {LARGE:,} trials on the disk add",
        Value("added", "bytes", (float(grown),)),
        at_most=64.0 * 2**20,
        note=f"the file has {amount(size, 'bytes')}; opened and checked in {amount(opened, 's')}",
    )


def cost_of_ledger(
    few: int = SMALL, many: int = LARGE
) -> tuple[list[float], list[float], int, int, float]:
    """Return the cost of a ledger; for a process of its own.

    Seconds of a trial among `few` and among `many`, bytes that the process holds more, bytes of the
    file, and seconds to open it.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.sqlite"
        before = resident()
        with Ledger.create(path) as ledger:
            _fill(ledger, 0, few)
            small = _ask_and_tell(ledger, few)
            _fill(ledger, 2 * few, many)
            large = _ask_and_tell(ledger, many)
            grown = resident() - before
        size = path.stat().st_size
        start = time.perf_counter()
        with Ledger.open(path):
            opened = time.perf_counter() - start
    return small, large, grown, size, opened


def _fill(ledger: Ledger, first: int, last: int) -> None:
    """Insert trials in one transaction, whose time is not measured."""
    with ledger._transaction() as connection:
        rows = (
            (f"evolve/{n:08}", "evolve", f"k{n}", '{"number": 1}', "Ok", "", RESULT, 1.0, n + 1)
            for n in range(first, last)
        )
        connection.executemany(f"INSERT INTO trials VALUES ({'?, ' * 8}?)", rows)


RESULT = '{"accuracy": 0.5, "macs": 100000, "params": 1000, "transfer": 0.25}'


def _ask_and_tell(ledger: Ledger, first: int, rounds: int = 10, each: int = 30) -> list[float]:
    """Return seconds to look up and record a trial, a mean over `each` in every round."""
    seconds = []
    for begin in range(first, first + rounds * each, each):
        start = time.perf_counter()
        for number in range(begin, begin + each):
            name = f"evolve/{number:08}"
            assert ledger.get(name) is None
            payload = {"number": number}
            ledger.record(
                Entry(
                    id=name, stage="evolve", key=name, payload=payload, outcome="Ok", result=payload
                )
            )
        seconds.append((time.perf_counter() - start) / each)
    return seconds
