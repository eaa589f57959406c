"""How far a search without generations is drawn to nets that are trained fast."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.studies.asynchronous_bias.jobs import SimulatedSearch, Summary, check
from experiments.studies.base import OURS, Claim, Exhibit, Plan, Results, Study, clear_of, enter
from robustkit.jobs.run import Piece
from robustkit.stats import mean_over_trainings

STRATEGIES = ("nsga2", "mu_plus_lambda", "ageing", "random")
WORKERS = (4, 16)
EXHIBIT = "asynchronous-bias"
SEEDS, POPULATION, GENERATIONS = 20, 16, 12


def phases(plan: Plan) -> Sequence[Sequence[Piece]]:
    """Every strategy, both modes, every number of workers, every seed."""
    seeds, generations = (2, 2) if plan.smoke else (SEEDS, GENERATIONS)
    population = 8 if plan.smoke else POPULATION
    return [
        [
            SimulatedSearch(
                f"{strategy}/{mode}/{workers}/{seed}",
                *(strategy, mode, workers, population, generations, seed),
            )
            for strategy in STRATEGIES
            for workers in WORKERS
            for mode in ("generational", "steady")
            for seed in range(plan.seed, plan.seed + seeds)
        ]
    ]


def summarise(results: Results) -> dict[str, Any]:
    """By strategy and workers: log₂ of the bred nets' operations in steady mode over generational,
    seed by seed."""
    found: dict[str, Any] = {}
    for name, own in results.items():
        strategy, mode, workers, seed = name.split("/")
        if mode == "steady":
            other = results[f"{strategy}/generational/{workers}/{seed}"]
            cell = found.setdefault(strategy, {}).setdefault(workers, {})
            cell[seed] = math.log2(own["bred"] / other["bred"])
    spread = max(each["spread"] for each in results.values())
    return {"study": "asynchronous-bias", "log2_ratio": found, "spread": spread}


def render(summary: Summary) -> str:
    """A table of ratios with their intervals, in Markdown."""
    lines = [
        "# The bias of an asynchronous search to fast nets",
        "",
        "Simulated workers, trials as long as their nets' operations (up to 1:"
        f"{summary['spread']:.0f}), objectives that are noise: operations of the nets that were "
        "bred in steady mode, over those bred in generations; geometric means over searches of one "
        "seed, with Student's 95 % intervals. Below 1: drawn to fast nets.",
        "",
        "| strategy | " + " | ".join(f"{workers} workers" for workers in WORKERS) + " |",
        "|---" * (1 + len(WORKERS)) + "|",
    ]
    for strategy, cells in summary["log2_ratio"].items():
        told = []
        for workers in WORKERS:
            told.append(_ratio(mean_over_trainings(list(cells[str(workers)].values())).to_json()))
        lines.append(f"| {strategy} | " + " | ".join(told) + " |")
    return "\n".join(lines)


def _ratio(found: Mapping[str, Any]) -> str:
    text = f"{2 ** found['mean']:.2f}"
    if found["low"] is None:
        return text
    return f"{text} [{2 ** found['low']:.2f}, {2 ** found['high']:.2f}]"


def judge(summary: Summary) -> list[Claim]:
    """Drawn to fast nets where the interval of log₂ of the ratio lies below 0."""
    found = []
    for strategy, cells in summary["log2_ratio"].items():
        for workers in WORKERS if strategy != "random" else ():
            over = mean_over_trainings(list(cells[str(workers)].values())).to_json()
            above = clear_of(over, 0.0)
            found.append(
                Claim(
                    exhibit=EXHIBIT,
                    what=f"{strategy}, {workers} workers: steady mode breeds cheaper nets",
                    published="ours",
                    ours=f"{_ratio(over)} of the operations, {over['n']} searches",
                    holds=None if above is None else not above,
                )
            )
    return found


enter(
    Study(
        name="asynchronous-bias",
        system=OURS,
        title="How far a search without generations is drawn to nets that are trained fast",
        source="the price of steady mode, measured where nothing but time tells nets apart",
        scales={
            "smoke": "2 searches of 2 generations; seconds",
            "small": "20 searches of 12 generations; 20 core-minutes",
        },
        exhibits=(Exhibit(name=EXHIBIT, shows="operations of bred nets, by mode"),),
        deviations=(),
        phases=phases,
        summarise=summarise,
        kind=Summary,
        check=lambda summary, where: check(summary, where, tuple(map(str, WORKERS))),
        judge=judge,
        render=render,
    )
)
