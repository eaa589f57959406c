"""Search strategies at equal training cost: how much the nets they find dominate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from evolution.objectives import dominated_area
from experiments.studies.base import (
    OURS,
    Claim,
    Header,
    PaperItem,
    Plan,
    Results,
    Study,
    StudyJob,
    clear_of,
    register,
)
from experiments.studies.search_strategies.jobs import (
    COST_SHARES,
    SEARCHES,
    SMOKE,
    TESTED,
    WORKERS,
    Evaluated,
    Measured,
    Prepare,
    Reference,
    SearchAndTest,
    Searched,
    Seeds,
    Spent,
    Summary,
    check,
)
from robustkit.report import PALETTE, chart, format_estimate, label, markdown_table, svg
from robustkit.stats import Mean, mean_over_trainings

SEEDS = 3
LOST = 0.05  # accuracy below R's architecture at which a net is worth nothing
SHARES = tuple(f"{share:g}" for share in COST_SHARES)
END = SHARES[-1]
ITEM = "search-strategies"
SPENT: tuple[tuple[Literal["trials", "epochs", "time"], int], ...] = (
    ("trials", 0),
    ("epochs", 0),
    ("time", 1),
)
RIVALS = ("random", "nsga2")
LINES = ("-", "--", ":")  # of curves


def jobs(plan: Plan) -> Sequence[Sequence[StudyJob]]:
    """Return R of every seed, then every search."""
    seeds = range(plan.seed, plan.seed + (1 if plan.smoke else SEEDS))
    place = (str(plan.folder),)
    searches = SMOKE if plan.smoke else tuple(SEARCHES)
    return [
        [Prepare(f"R/{seed}", *place, seed, plan.smoke) for seed in seeds],
        [
            SearchAndTest(f"{search}/{seed}", *place, search, seed, plan.smoke)
            for seed in seeds
            for search in searches
        ],
    ]


def summarise(results: Results, header: Header) -> Summary:
    """Return, by search and seed, the hypervolume at every share of the cost and what was spent."""
    reference = {
        str(job.seed): reference_result for job, reference_result in results.of(Prepare, Reference)
    }
    searches: dict[str, Seeds] = {}
    for job, spent in results.of(SearchAndTest, Spent):
        seed = str(job.seed)
        accuracy = reference[seed].judged.accuracy - LOST
        searches.setdefault(job.search, {})[seed] = Searched(
            hypervolume={at: hypervolume(nets, accuracy) for at, nets in spent.moments.items()},
            nets=spent.moments["1"],
            trials=spent.trials,
            failed=spent.failed,
            epochs=spent.epochs,
            time=spent.time,
        )
    ordered = {search: searches[search] for search in SEARCHES if search in searches}
    return Summary(**header, searches=ordered, reference=reference)


def hypervolume(nets: Iterable[Evaluated], accuracy: float) -> float:
    """Return the area that tested nets dominate, in points of accuracy times share not fooled.

    From the corner where accuracy is `accuracy` (in [0,1]) and all adversarials transfer. Nets
    that failed, and those no better than the corner, add nothing.
    """
    return dominated_area(
        [
            (net.accuracy, net.transfer)
            for net in nets
            if net.accuracy is not None and net.transfer is not None
        ],
        accuracy,
    )


def gain(searches: Mapping[str, Seeds], search: str, rival: str) -> Mean:
    """Return the difference of two searches at the end, seed by seed."""

    def last(name: str, seed: str) -> float:
        return float(searches[name][seed].hypervolume[END])

    return mean_over_trainings(
        [last(search, seed) - last(rival, seed) for seed in searches[search]]
    )


def claims(summary: Summary) -> list[Claim]:
    """Decide by intervals over seeds clear of 0, at the whole cost."""
    searches = summary.searches
    gains = {
        (search, rival): gain(searches, search, rival)
        for search in searches
        for rival in RIVALS
        if search != rival and rival in searches
    }
    return [
        Claim(
            item=ITEM,
            what=f"{search} finds more than {rival}",
            published="ours",
            ours=f"{_points(gained, sign=True)} points, {gained.n} seeds",
            holds=clear_of(gained, 0.0),
        )
        for (search, rival), gained in gains.items()
    ]


def render(summary: Summary) -> str:
    """Return hypervolumes over cost, gains over both rivals, what was spent; in Markdown."""
    searches = summary.searches
    references = [reference.judged for reference in summary.reference.values()]
    parts = [
        "# Search strategies at equal cost",
        f"The {TESTED} nets that each search would have named after a share of its epochs, trained "
        "from scratch with a seed that no search knows and tested: the area they dominate in "
        f"accuracy and in what does not transfer, in points of accuracy above R's architecture "
        f"minus {100 * LOST:g} points ({_percent(references, 'accuracy')} retrained alike, of R's "
        f"adversarials {_percent(references, 'transfer')} transfer to it). Means over seeds with "
        "Student's 95 % intervals; gains are seed by seed.",
        _table(searches),
        f"Time is that of {WORKERS} simulated workers whose trials last as long as their nets "
        "compute, in epochs of R's architecture.",
    ]
    return "\n\n".join(parts)


def _percent(references: Sequence[Measured], measure: Literal["accuracy", "transfer"]) -> str:
    mean = mean_over_trainings([getattr(net, measure) for net in references])
    return f"{100 * (mean.value or 0):.1f} %"


def _table(searches: Mapping[str, Seeds]) -> str:
    shares = [f"{100 * share:g} %" for share in COST_SHARES]
    gains = [f"over {rival}" for rival in RIVALS]
    head = ["search", *shares, *gains, "trials", "epochs", "time"]
    rows = []
    for search, seeds in searches.items():
        cells = []
        for share in COST_SHARES:
            volumes = [searched.hypervolume[f"{share:g}"] for searched in seeds.values()]
            cells.append(_points(mean_over_trainings(volumes), only_mean=share != COST_SHARES[-1]))
        for rival in RIVALS:
            comparable = search != rival and rival in searches
            cells.append(_points(gain(searches, search, rival), sign=True) if comparable else "–")
        for cost, digits in SPENT:
            mean = mean_over_trainings(
                [getattr(searched, cost) for searched in seeds.values()]
            ).value
            cells.append(f"{mean:.{digits}f}")
        rows.append([search, *cells])
    return markdown_table(head, rows)


def _points(mean: Mean, *, sign: bool = False, only_mean: bool = False) -> str:
    form = "+.2f" if sign else ".2f"
    return f"{mean.value:{form}}" if only_mean else format_estimate(mean, form)


def courses(searches: Mapping[str, Seeds]) -> str:
    """Return means over seeds as lines, the seeds as dots beside them."""
    with chart(7.5, 4.2) as drawing:
        axis: Any = drawing.subplots()
        count = len(searches)
        for number, (search, seeds) in enumerate(searches.items()):
            colour = PALETTE[number % len(PALETTE)]
            shares = list(next(iter(seeds.values())).hypervolume)
            values = [
                [searched.hypervolume[share] for searched in seeds.values()] for share in shares
            ]
            aside = 1.2 * (number - (count - 1) / 2)
            at = [100 * float(share) + aside for share in shares]
            line = LINES[number // len(PALETTE) % len(LINES)]
            style = {"color": colour, "linestyle": line, "lw": 1.6, "label": label(search)}
            axis.plot(at, [mean_over_trainings(volumes).value for volumes in values], **style)
            for position, volumes in zip(at, values, strict=True):
                axis.plot(
                    [position] * len(volumes), volumes, "o", color=colour, markersize=3, alpha=0.6
                )
        # Searches stand side by side at each share, so that their seeds can be told apart.
        axis.set_xticks([100 * float(share) for share in shares])
        axis.set(xlabel="share of the epochs spent (%)", ylabel="hypervolume, points")
        axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
        return str(svg(drawing, alt="Hypervolume of every search over what it has spent"))


def figures(summary: Summary) -> Iterable[tuple[str, str]]:
    """Yield the hypervolume over cost."""
    yield "courses.svg", courses(summary.searches)


register(
    Study(
        name="search-strategies",
        system=OURS,
        title="Search strategies at equal training cost on CIFAR-10",
        source="what generations, rungs, inherited weights and ageing are worth here",
        scales={
            "smoke": "digits, two searches of few candidates; seconds",
            "small": "CIFAR-10 at 16 × 16, nine searches of 128 epochs, 3 seeds; two core-hours",
        },
        items=(PaperItem(name=ITEM, shows="hypervolume at equal cost, measured on test"),),
        deviations=(),
        jobs=jobs,
        summarise=summarise,
        summary=Summary,
        check=lambda summary, where: check(summary, where, RIVALS, SHARES),
        claims=claims,
        render=render,
        figures=figures,
    )
)
