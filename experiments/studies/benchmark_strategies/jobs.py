"""The jobs of the study: blocks of searches on the benchmark, scored by what is expected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from msgspec import Meta

from evolution.benchmark import Surrogate, load_table, open_surrogate
from evolution.benchmark.config import BenchmarkConfig
from evolution.benchmark.measure import REFERENCES, RUNGS
from evolution.benchmark.quality import fidelity
from evolution.benchmark.search import (
    Searched,
    Spent,
    Values,
    baseline,
    measures_of,
    run_searches,
    seen_front,
    selected,
)
from evolution.objectives import dominated_area
from experiments.studies.base import StudyJob, StudySummary
from experiments.studies.benchmark_strategies.peers import PEERS
from robustkit.runs.summaries import Count, Difference, Number, Result, Share

LAST = RUNGS[-1]
SHARES = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)  # of the cost
# The defaults until the second study: a wide bound, and preselection.
DEFAULT = BenchmarkConfig(population=8, generations=5, promote=0, floor=0.05, screen=32)

WITHOUT_MACS = "accuracy:max,{}:min"

# Every search by what it has of its own; all have the epochs of `DEFAULT`, "nsga2".
SEARCHES: dict[str, dict[str, object]] = {
    "random": {"strategy": "random"},
    "nsga2": {},
    "mu_plus_lambda": {"strategy": "mu_plus_lambda"},
    "ageing": {"strategy": "ageing"},
    "local": {"strategy": "local"},
    "tpe": {"strategy": "tpe"},
    "steady": {"mode": "steady"},
    "halving 2": {"mode": "steady", "halving": 2},
    "halving 4": {"mode": "steady", "halving": 4},
    "halving 4, forecast": {"mode": "steady", "halving": 4, "forecast": True},
    "1 epoch": {"epochs": 1},
    "2 epochs": {"epochs": 2},
    "no preselection": {"screen": 1},
    "preselection of 8": {"screen": 8},
    "no crossover": {"crossover": 0.0},
    "crossover 0.8": {"crossover": 0.8},
    "population 4": {"population": 4},
    "population 20": {"population": 20},
    "no presets": {"presets": False},
    "random, no presets": {"strategy": "random", "presets": False},
    "plain genes": {"strategy": "plain genes"},
    "no bound": {"floor": 1.0},
    "narrow bound": {"floor": 0.01},
    "without MACs": {"objectives": WITHOUT_MACS},
    "without MACs, narrow bound": {"objectives": WITHOUT_MACS, "floor": 0.01},
    "ageing, without MACs": {"strategy": "ageing", "objectives": WITHOUT_MACS},
    "local, without MACs": {"strategy": "local", "objectives": WITHOUT_MACS},
}
ROUGH = (
    *("random", "nsga2", "mu_plus_lambda", "ageing", "local", "tpe"),
    *("halving 2", "halving 4, forecast", "no preselection"),
)
# What the first study left open: its two best alternatives together, and larger budgets.
FOURFOLD = ", fourfold"
COMBINED: dict[str, dict[str, object]] = {
    "1 epoch, no preselection": {"epochs": 1, "screen": 1},
    "1 epoch, narrow bound": {"epochs": 1, "floor": 0.01},
    "1 epoch, narrow bound, no preselection": {"epochs": 1, "floor": 0.01, "screen": 1},
    "narrow bound, no preselection": {"floor": 0.01, "screen": 1},
    "random, fourfold": {"strategy": "random", "budget": 4},
    "nsga2, fourfold": {"budget": 4},
    "no preselection, fourfold": {"screen": 1, "budget": 4},
    "population 20, fourfold": {"population": 20, "budget": 4},
    "1 epoch, no preselection, fourfold": {"epochs": 1, "screen": 1, "budget": 4},
}
COMBINATIONS = ("random", "nsga2", "1 epoch", "no preselection", *COMBINED)
COMBINATIONS_ROUGH = (
    *("random", "nsga2", "1 epoch", "no preselection", "1 epoch, no preselection"),
    *("random, fourfold", "nsga2, fourfold", "no preselection, fourfold"),
)
COMBINATIONS_SMOKE = ("random", "nsga2", "random, fourfold", "nsga2, fourfold")
EVERY = SEARCHES | COMBINED
SMOKE = ("random", "nsga2", "halving 2", "halving 4, forecast", "1 epoch", "plain genes")
BLOCK = 20  # searches of a job

Area = Annotated[float, Meta(ge=0, le=100)]


class Course(Result, frozen=True, kw_only=True):
    """One search: after each of `SHARES` the area and the transfer of what it would select.

    By what is expected after the last epochs. `accuracy` is that of the network selected at the
    end, `margin` by how much it lies above the accuracy asked for.
    """

    area: list[Area]
    transfer: list[Share]
    accuracy: Share
    margin: Difference


class Block(Result, frozen=True, kw_only=True):
    """The searches of one block, by seed from `first` on."""

    first: Count
    courses: list[Course]


class Fidelities(Result, frozen=True, kw_only=True):
    """Kendall's τ of a number after fewer epochs with that after the last, in the table."""

    networks: Number
    taus: dict[str, dict[str, Difference]]


class Search(Result, frozen=True, kw_only=True):
    """All searches of one kind by seed, at the end; `courses` are quartiles of the area."""

    area: list[Area]
    transfer: list[Share]
    margin: list[Difference]
    low: list[Area]
    median: list[Area]
    high: list[Area]


class Summary(StudySummary, frozen=True, kw_only=True):
    """Searches by name on the smooth landscape, on the rough one, and the fidelities.

    Seeds are `seeds` consecutive ones, from `first` on.
    """

    first: Count
    seeds: Number
    smooth: dict[str, Search]
    rough: dict[str, Search]
    fidelity: Fidelities


def reference_of(seed: int) -> str:
    """Return the reference that a seed's searches avoid: the first one for even seeds.

    Defaults are chosen on even seeds and judged on odd ones, which have the other references.
    """
    return REFERENCES[0] if seed % 2 == 0 else REFERENCES[1 + seed // 2 % (len(REFERENCES) - 1)]


def config_of(search: str, seed: int, *, smoke: bool) -> BenchmarkConfig:
    """Return the settings of one search.

    Cheaper trials and a larger budget make for as many more generations.
    """
    measure = f"transfer_{reference_of(seed)}"
    base = replace(DEFAULT, population=4, generations=4, screen=4) if smoke else DEFAULT
    own = dict(EVERY[search])
    epochs = base.search_epochs * int(str(own.pop("budget", 1)))
    if own.get("strategy") in PEERS:
        del own["strategy"]  # opened in its place
    objectives = str(own.pop("objectives", "accuracy:max,{}:min,macs:min")).format(measure)
    changed = replace(base, **own, objectives=objectives, seed=seed)  # type: ignore[arg-type]
    return replace(changed, generations=epochs // (changed.population * changed.epochs))


def course_of(search: Searched, config: BenchmarkConfig, surrogate: Surrogate) -> Course:
    """Return the course of one search, its networks scored by what is expected of them."""
    measure = f"transfer_{reference_of(config.seed)}"
    asked = baseline(surrogate, LAST)["accuracy"]
    levels = {epochs: baseline(surrogate, epochs)["accuracy"] for epochs in config.rungs}
    names = surrogate.setting.references

    def expected(spent: Spent) -> Values:
        return measures_of(surrogate.expected(spent.trial.candidate.genotype), LAST, names)

    areas, transfers = [], []
    for share in SHARES:
        ended = [each for each in search.trials if each.total <= share * config.search_epochs]
        longest = max((each.epochs for each in ended), default=0)
        known = [each for each in ended if each.epochs == longest]
        if not known:
            areas.append(0.0)
            transfers.append(1.0)
            continue
        front = [expected(each) for each in seen_front(known, measure)]
        points = [(each["accuracy"], each[measure]) for each in front]
        areas.append(dominated_area(points, asked - DEFAULT.floor))
        best = expected(selected(known, levels[longest] - config.tolerance, measure))
        transfers.append(best[measure])
    return Course(
        area=areas,
        transfer=transfers,
        accuracy=best["accuracy"],
        margin=best["accuracy"] - (asked - config.tolerance),
    )


@dataclass(frozen=True)
class Searches(StudyJob):
    """The searches of one kind with `count` seeds from `first` on.

    Rough landscapes depart from the regression otherwise in every block.
    """

    search: str
    first: int
    count: int
    rough: bool
    smoke: bool

    kind = Block

    def run(self) -> Block:
        """Return their courses."""
        surrogate = open_surrogate(deviations=self.rough, seed=self.first if self.rough else 0)
        strategy = str(EVERY[self.search].get("strategy"))
        name = "random" if strategy == "random" else "evolve"
        courses = []
        for seed in range(self.first, self.first + self.count):
            config = config_of(self.search, seed, smoke=self.smoke)
            found = run_searches(config, surrogate, searches=(name,), evolution=PEERS.get(strategy))
            courses.append(course_of(found[name], config, surrogate))
        return Block(first=self.first, courses=courses)


@dataclass(frozen=True)
class Fidelity(StudyJob):
    """What fewer epochs say about the last ones, in the table itself."""

    kind = Fidelities

    def run(self) -> Fidelities:
        """Return Kendall's τ by number and epochs."""
        table = load_table()
        taus: dict[str, dict[str, float]] = {}
        for column, tau in fidelity(table):
            of = "" if column.reference is None else f" from {REFERENCES[column.reference]}"
            taus.setdefault(f"{column.quantity}{of}", {})[str(column.epochs)] = tau
        return Fidelities(networks=len(table.records), taus=taus)


def blocks(
    searches: Sequence[str], seeds: Sequence[int], *, rough: bool, smoke: bool
) -> list[Searches]:
    """Return the jobs of all `searches` with these seeds, which are consecutive."""
    landscape = "rough" if rough else "smooth"
    return [
        Searches(
            f"{landscape}/{search}/{first:04d}",
            search,
            first,
            min(BLOCK, seeds[-1] + 1 - first),
            rough,
            smoke,
        )
        for first in range(seeds[0], seeds[-1] + 1, BLOCK)
        for search in searches
    ]
