"""Whole searches on the benchmark: evolution and its random control, in seconds.

Strategies, runners and ledger are those of real searches; only the trials are draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from evolution.benchmark.config import BenchmarkConfig
from evolution.benchmark.measure import Measurement, vgg5_genotype
from evolution.benchmark.surrogate import Surrogate
from evolution.genotype import Candidate, Genotype, Trial
from evolution.protocol.selection import ranked
from evolution.runner import Scheduler, Task, generational, steady, successive_halving
from evolution.strategies import SearchSettings, Strategy, open_strategy
from robustkit.compute import derive_seed
from robustkit.jobs import open_executor
from robustkit.runs import Entry, Ledger

SEARCHES = ("evolve", "random")
PROMOTED = "promote-"
Values = Mapping[str, float]


def measures_of(
    measurement: Measurement, epochs: int, references: Sequence[str]
) -> dict[str, float]:
    """Return the numbers of a training after `epochs` by the names of `MEASURES`."""
    rung = next(each for each in measurement.rungs if each.epochs == epochs)
    unseen = {"unseen": _mean(rung.unseen)} if rung.unseen else {}
    each_transfer = zip(references, rung.transfer, strict=True)
    return {
        "accuracy": rung.accuracy,
        "transfer": _mean(rung.transfer),
        **{f"transfer_{name}": value for name, value in each_transfer},
        **unseen,
        "cos_abs": _mean(rung.cosine_abs),
        "grad_norm": rung.norm,
        "macs": float(measurement.macs),
        "params": float(measurement.params),
        "seconds": rung.seconds,
    }


def baseline(surrogate: Surrogate, epochs: int) -> dict[str, float]:
    """Return what the reference vgg5's own architecture is expected to have under the penalty."""
    expected = surrogate.expected(vgg5_genotype())
    return measures_of(expected, epochs, surrogate.setting.references)


@dataclass(frozen=True)
class Draw:
    """The job of one trial: a training of `genotype` drawn with `seed`, read after `epochs`."""

    genotype: Genotype
    seed: int
    epochs: int
    surrogate: Surrogate = field(repr=False, compare=False)

    def run(self) -> dict[str, dict[str, float]]:
        """Return the drawn `values`, and those `expected` of the network."""
        names = self.surrogate.setting.references
        drawn = self.surrogate.draw(self.genotype, self.seed)
        expected = self.surrogate.expected(self.genotype)
        return {
            "values": measures_of(drawn, self.epochs, names),
            "expected": measures_of(expected, self.epochs, names),
        }


@dataclass(frozen=True)
class Spent:
    """A trial of a search with what its network is expected to have, in the order of ending.

    `epochs` are the trial's own; `total` those that the search had spent when it ended. Of a trial
    that was `promoted`, which follows the search, `total` is the search's whole.
    """

    trial: Trial
    expected: Values
    epochs: int
    total: int
    promoted: bool = False

    @property
    def seen(self) -> Values:
        """Return the values drawn."""
        assert self.trial.values is not None
        return self.trial.values


@dataclass(frozen=True)
class Searched:
    """A finished search by its trials; `epochs` are those of a whole trial."""

    name: str
    epochs: int
    trials: tuple[Spent, ...]

    @property
    def whole(self) -> list[Spent]:
        """Return the trials with the most epochs of the search, without promoted ones."""
        return [each for each in self.trials if each.epochs == self.epochs and not each.promoted]

    @property
    def promoted(self) -> list[Spent]:
        """Return the trainings from which one was selected, if there were any."""
        return [each for each in self.trials if each.promoted]


def run_searches(
    config: BenchmarkConfig,
    surrogate: Surrogate,
    ledger: Ledger | None = None,
    on_entry: Callable[[Entry], None] = lambda entry: None,
    searches: Sequence[str] = SEARCHES,
    evolution: Callable[[SearchSettings], Strategy] | None = None,
) -> dict[str, Searched]:
    """Run evolution and random search at equal cost; return them by name.

    The control has a seed of its own; a network that both ask for is the same training. What the
    `ledger` holds is not drawn again. A strategy that `evolution` opens stands in for the config's.
    Raises `ConfigError` where the space has too few networks.
    """
    with open_executor("inline") as executor:
        scheduler = Scheduler(executor, ledger, on_entry)
        run = _Run(config, surrogate, scheduler, ledger, evolution)
        found = {}
        for name in searches:
            found[name] = Searched(name, config.epochs, tuple(scheduler.run(run.search(name))))
        scheduler.check()
    return found


class _Run:
    def __init__(
        self,
        config: BenchmarkConfig,
        surrogate: Surrogate,
        scheduler: Scheduler,
        ledger: Ledger | None,
        evolution: Callable[[SearchSettings], Strategy] | None,
    ) -> None:
        self._evolution = evolution or partial(open_strategy, config.strategy)
        self._config, self._surrogate = config, surrogate
        self._scheduler, self._ledger = scheduler, ledger
        self._expected: dict[tuple[str, int], Values] = {}

    async def search(self, name: str) -> list[Spent]:
        """Return the trials of a search and of those that it promotes, in the order of ending."""
        config, control = self._config, name == "random"
        levels = [baseline(self._surrogate, epochs)["accuracy"] for epochs in config.rungs]
        halved = config.halving is not None and not control
        settings = (config if halved else replace(config, halving=None)).settings(
            accuracy=levels[0] if halved else levels[-1],
            seed=derive_seed(config.seed, "benchmark search", name),
        )
        strategy = open_strategy("random", settings) if control else self._evolution(settings)

        def task_of(candidate: Candidate, rung: int = len(config.rungs) - 1) -> Task:
            return self._task(name, candidate, config.rungs[rung])

        if config.mode == "generational":
            trials = await generational(strategy, self._scheduler, task_of)
        elif not halved:
            trials = await steady(
                strategy,
                self._scheduler,
                task_of,
                in_flight=config.parallel,
                recorded=self._recorded(name),
            )
        else:
            trials = await successive_halving(
                strategy,
                self._scheduler,
                task_of,
                epochs=config.rungs,
                rate=config.halving or 2,
                objectives=[config.bounded(level) for level in levels[:-1]],
                budget=config.search_epochs,
                in_flight=config.parallel,
                recorded=self._recorded(name),
                forecast=config.bounded(levels[-1]) if config.forecast else (),
            )
        spent = self._spent(trials, config.rungs if halved else config.rungs[-1:])
        return [*spent, *await self._promoted(name, spent, levels[-1])]

    async def _promoted(self, name: str, spent: Sequence[Spent], accuracy: float) -> list[Spent]:
        """Train the best once more, so that one is not selected for the luck of its trial.

        They are those that a run with trainings would promote, by the rule that selects one.
        """
        config = self._config
        whole = [each.trial for each in spent if each.epochs == config.epochs]
        best = ranked(whole, accuracy - config.tolerance)[: config.promote]
        again = []
        for candidate in sorted((each.candidate for each in best), key=lambda each: each.number):
            entry = await self._scheduler.submit(
                self._task(f"{PROMOTED}{name}", candidate, config.epochs, replicate=1)
            )
            again.append(_promoted_trial(candidate, entry, spent[-1].total))
        return again

    def _recorded(self, name: str) -> list[Entry]:
        if self._ledger is None:
            return []
        return [entry for entry in self._ledger.in_order() if entry.stage == name]

    def _task(self, stage: str, candidate: Candidate, epochs: int, replicate: int = 0) -> Task:
        genotype = candidate.genotype
        key = genotype.key()
        lower = "" if epochs == self._config.epochs else f"{epochs}/"
        return Task(
            id=f"{stage}/{lower}{candidate.number:05d}",
            stage=stage,
            key=f"{key}/{epochs}/{replicate}",
            job=Draw(
                genotype,
                derive_seed(self._config.seed, "training", epochs, replicate),
                epochs,
                self._surrogate,
            ),
            payload={
                "genotype": genotype.to_dict(),
                "number": candidate.number,
                "parents": list(candidate.parents),
                "operator": candidate.operator,
                "generation": candidate.generation,
                "epochs": epochs,
            },
        )

    def _spent(self, trials: Sequence[Trial], rungs: Sequence[int]) -> list[Spent]:
        """Return the trials with their networks' expectations and what was spent by then."""
        names, total, spent = self._surrogate.setting.references, 0, []
        for trial in trials:
            epochs = rungs[trial.rung]
            total += epochs
            expected = self._surrogate.expected(trial.candidate.genotype)
            spent.append(Spent(trial, measures_of(expected, epochs, names), epochs, total))
        return spent


def _promoted_trial(candidate: Candidate, entry: Entry, total: int) -> Spent:
    assert entry.result is not None
    values, expected = entry.result["values"], entry.result["expected"]
    trial = Trial(candidate, entry.outcome, values, entry.reason, entry.seconds)
    return Spent(trial, expected, int(entry.payload["epochs"]), total, promoted=True)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


# ----------------------------------------------------------------------------------- scores


def seen_front(trials: Sequence[Spent], measure: str = "transfer") -> list[Spent]:
    """Return the trials that no other one beats in accuracy and `measure` as they were drawn."""
    best, lowest = [], float("inf")
    for each in sorted(trials, key=lambda e: (-e.seen["accuracy"], e.seen[measure])):
        if each.seen[measure] < lowest:
            best.append(each)
            lowest = each.seen[measure]
    return best


def selected(trials: Sequence[Spent], threshold: float, measure: str = "transfer") -> Spent:
    """Return the trial with the least `measure` among those of accuracy `threshold` and above.

    As they were drawn; the most accurate one where there is none.
    """
    accurate = [each for each in trials if each.seen["accuracy"] >= threshold]
    if accurate:
        return min(accurate, key=lambda each: (each.seen[measure], each.trial.number))
    return max(trials, key=lambda each: (each.seen["accuracy"], -each.trial.number))
