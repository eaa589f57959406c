"""The bias of a search without generations towards nets that train fast."""

from __future__ import annotations

import math
from collections.abc import Sequence

from experiments.studies.asynchronous_bias.jobs import (
    Cells,
    Searched,
    SimulatedSearch,
    Summary,
    check,
)
from experiments.studies.base import (
    OURS,
    Claim,
    Header,
    PaperItem,
    Plan,
    Results,
    Study,
    below,
    register,
)
from robustkit.report import format_estimate, markdown_table
from robustkit.stats import Mean, mean_over_trainings

STRATEGIES = ("nsga2", "mu_plus_lambda", "ageing", "random")
WORKERS = (4, 16)
ITEM = "asynchronous-bias"
SEEDS, POPULATION, GENERATIONS = 20, 16, 12


def jobs(plan: Plan) -> Sequence[Sequence[SimulatedSearch]]:
    """Return every strategy, both modes, every number of workers, every seed."""
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


def summarise(results: Results, header: Header) -> Summary:
    """Return, by strategy, workers and seed, log₂ of a ratio of the bred nets' operations.

    The ratio is that of steady mode to generational mode.
    """
    found = results.of(SimulatedSearch, Searched)
    generational = {
        (job.strategy, job.workers, job.seed): result.bred
        for job, result in found
        if job.mode == "generational"
    }
    ratios: dict[str, Cells] = {}
    for job, result in found:
        if job.mode == "steady":
            generation_run = generational[job.strategy, job.workers, job.seed]
            cell = ratios.setdefault(job.strategy, {}).setdefault(str(job.workers), {})
            cell[str(job.seed)] = math.log2(result.bred / generation_run)
    spread = max(result.spread for _, result in found)
    return Summary(**header, log2_ratio=ratios, spread=spread)


def render(summary: Summary) -> str:
    """Return a table of ratios with their intervals, in Markdown."""
    rows = []
    for strategy, cells in summary.log2_ratio.items():
        ratios = [mean_over_trainings(list(cells[str(workers)].values())) for workers in WORKERS]
        rows.append([strategy, *map(_ratio, ratios)])
    parts = [
        "# The bias of an asynchronous search to fast nets",
        "Simulated workers, trials as long as their nets' operations (up to 1:"
        f"{summary.spread:.0f}), objectives that are noise: operations of the nets that were "
        "bred in steady mode, over those bred in generations; geometric means over searches of one "
        "seed, with Student's 95 % intervals. Below 1: drawn to fast nets.",
        markdown_table(["strategy", *(f"{workers} workers" for workers in WORKERS)], rows),
    ]
    return "\n\n".join(parts)


def _ratio(log2: Mean) -> str:
    """Return 2 to the power of a mean and its interval."""
    return format_estimate(
        Mean(
            n=log2.n,
            **{
                end: None if value is None else 2**value
                for end, value in (("value", log2.value), ("low", log2.low), ("high", log2.high))
            },
        )
    )


def claims(summary: Summary) -> list[Claim]:
    """Decide that steady mode breeds cheaper nets: the interval of log₂ of the ratio lies
    below 0.
    """
    claims = []
    for strategy, cells in summary.log2_ratio.items():
        for workers in WORKERS if strategy != "random" else ():
            log2 = mean_over_trainings(list(cells[str(workers)].values()))
            claims.append(
                Claim(
                    item=ITEM,
                    what=f"{strategy}, {workers} workers: steady mode breeds cheaper nets",
                    published="ours",
                    ours=f"{_ratio(log2)} of the operations, {log2.n} searches",
                    holds=below(log2),
                )
            )
    return claims


register(
    Study(
        name="asynchronous-bias",
        system=OURS,
        title="How far a search without generations is drawn to nets that are trained fast",
        source="the price of steady mode, measured where nothing but time tells nets apart",
        scales={
            "smoke": "2 searches of 2 generations; seconds",
            "small": "20 searches of 12 generations; 20 core-minutes",
        },
        items=(PaperItem(name=ITEM, shows="operations of bred nets, by mode"),),
        deviations=(),
        jobs=jobs,
        summarise=summarise,
        summary=Summary,
        check=lambda summary, where: check(summary, where, tuple(map(str, WORKERS))),
        claims=claims,
        render=render,
    )
)
