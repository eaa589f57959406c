"""Search strategies on the benchmark: every design choice over hundreds of seeds at equal cost.

The rule of defaults, fixed before any run: on even seeds, which avoid the first reference, an
alternative is chosen if its area at the whole cost exceeds that of the default, paired by seed, by
a mean whose 95 % interval lies above zero. It is confirmed if the same holds on odd seeds, which
avoid the other references. Only what is confirmed may change a default.

A second study, with the same rule and seeds that the first one has not seen, asks what its best
alternatives are worth together, and with four times the budget, compared among themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

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
from experiments.studies.benchmark_strategies.jobs import (
    COMBINATIONS,
    COMBINATIONS_ROUGH,
    COMBINATIONS_SMOKE,
    EVERY,
    FOURFOLD,
    ROUGH,
    SEARCHES,
    SHARES,
    SMOKE,
    Block,
    Course,
    Fidelities,
    Fidelity,
    Search,
    Searches,
    Summary,
    blocks,
)
from robustkit.errors import RunError
from robustkit.report import PALETTE, chart, format_estimate, label, markdown_table, svg
from robustkit.stats import Mean, mean_over_trainings

SEEDS = 200
BASE, CONTROL = "nsga2", "random"
NAME, SECOND = "benchmark-strategies", "benchmark-combinations"
UNSEEN = 1000  # the second study's first seed is so far from the first one's
CHOOSING, JUDGING = 0, 1  # parity of the seeds
NAMED = 5  # searches in a drawing, beside the default and random search


def jobs(plan: Plan) -> Sequence[Sequence[StudyJob]]:
    """Return the fidelities and all searches, in blocks of seeds."""
    seeds = range(plan.seed, plan.seed + (4 if plan.smoke else SEEDS))
    searches = SMOKE if plan.smoke else tuple(SEARCHES)
    rough = [search for search in ROUGH if search in searches]
    return [
        [
            Fidelity("fidelity"),
            *blocks(searches, seeds, rough=False, smoke=plan.smoke),
            *blocks(rough, seeds, rough=True, smoke=plan.smoke),
        ]
    ]


def combined_jobs(plan: Plan) -> Sequence[Sequence[StudyJob]]:
    """Return the fidelities and the second study's searches, with seeds of their own."""
    first = UNSEEN + plan.seed
    seeds = range(first, first + (4 if plan.smoke else SEEDS))
    smooth = COMBINATIONS_SMOKE if plan.smoke else COMBINATIONS
    rough = COMBINATIONS_SMOKE if plan.smoke else COMBINATIONS_ROUGH
    return [
        [
            Fidelity("fidelity"),
            *blocks(smooth, seeds, rough=False, smoke=plan.smoke),
            *blocks(rough, seeds, rough=True, smoke=plan.smoke),
        ]
    ]


def summarise(results: Results, header: Header) -> Summary:
    """Return the ends of all searches by seed, and quartiles of their courses."""
    courses: dict[bool, dict[str, list[Course]]] = {False: {}, True: {}}
    for job, block in sorted(results.of(Searches, Block), key=lambda pair: pair[0].first):
        courses[job.rough].setdefault(job.search, []).extend(block.courses)
    [(_, fidelities)] = results.of(Fidelity, Fidelities)
    found = {
        rough: {name: _search(by_name[name]) for name in EVERY if name in by_name}
        for rough, by_name in courses.items()
    }
    return Summary(
        **header,
        first=min(job.first for job, _ in results.of(Searches, Block)),
        seeds=len(found[False][BASE].area),
        smooth=found[False],
        rough=found[True],
        fidelity=fidelities,
    )


def _search(courses: Sequence[Course]) -> Search:
    areas = np.array([course.area for course in courses])
    low, median, high = np.quantile(areas, (0.25, 0.5, 0.75), axis=0)
    return Search(
        area=[round(float(value), 4) for value in areas[:, -1]],
        transfer=[round(course.transfer[-1], 5) for course in courses],
        margin=[round(course.margin, 5) for course in courses],
        low=[round(float(value), 4) for value in low],
        median=[round(float(value), 4) for value in median],
        high=[round(float(value), 4) for value in high],
    )


def check(summary: Summary, where: str) -> None:
    """Raise `RunError` where searches differ in their seeds, or the default is missing."""
    for landscape in ("smooth", "rough"):
        searches: Mapping[str, Search] = getattr(summary, landscape)
        for name in (BASE, CONTROL):
            if name not in searches:
                raise RunError(f"{where}: {landscape}: '{name}' is missing")
        for name, search in searches.items():
            for field, count in (
                *((field, summary.seeds) for field in ("area", "transfer", "margin")),
                *((field, len(SHARES)) for field in ("low", "median", "high")),
            ):
                if len(getattr(search, field)) != count:
                    raise RunError(f"{where}: {landscape}.{name}.{field}: not {count} numbers")


def rivals_of(name: str) -> tuple[str, str]:
    """Return random search and the default with the budget of the search `name`."""
    budget = FOURFOLD if name.endswith(FOURFOLD) else ""
    return CONTROL + budget, BASE + budget


def gain(
    searches: Mapping[str, Search],
    name: str,
    rival: str,
    parity: int | None = None,
    *,
    first: int = 0,
) -> Mean:
    """Return the difference in area of two searches, paired by seed, at the whole cost.

    Of all seeds from `first` on, or of those of one `parity`.
    """
    own, other = searches[name].area, searches[rival].area
    return mean_over_trainings(
        [
            mine - rivals
            for seed, (mine, rivals) in enumerate(zip(own, other, strict=True), start=first)
            if parity is None or seed % 2 == parity
        ]
    )


def chosen(searches: Mapping[str, Search], *, first: int = 0) -> list[str]:
    """Return the alternatives that the rule chooses on even seeds."""
    return [
        name
        for name in searches
        for _, base in [rivals_of(name)]
        if name != base and clear_of(gain(searches, name, base, CHOOSING, first=first), 0.0) is True
    ]


def claims(summary: Summary, item: str = NAME) -> list[Claim]:
    """Decide by the rule of this module, and every search against random search."""
    searches = summary.smooth
    found = []
    for name in chosen(searches, first=summary.first):
        _, base = rivals_of(name)
        judged = gain(searches, name, base, JUDGING, first=summary.first)
        found.append(
            Claim(
                item=item,
                what=f"{name}: chosen over {base} on even seeds, confirmed on odd ones",
                published="ours",
                ours=_points(judged),
                holds=clear_of(judged, 0.0),
            )
        )
    for landscape, of in (("smooth", searches), ("rough", summary.rough)):
        found += [
            Claim(
                item=item,
                what=f"{name} finds more than {control.replace(CONTROL, f'{CONTROL} search')} "
                f"({landscape} landscape)",
                published="ours",
                ours=_points(gain(of, name, control)),
                holds=clear_of(gain(of, name, control), 0.0),
            )
            for name in of
            for control, _ in [rivals_of(name)]
            if name != control
        ]
    return found


def render(summary: Summary) -> str:
    """Return the tables of both landscapes and the fidelities, in Markdown."""
    picked = chosen(summary.smooth, first=summary.first)
    parts = [
        "# Search strategies on the benchmark",
        f"Searches at equal cost in epochs, {summary.seeds} seeds each, on trainings predicted "
        f"from {summary.fidelity.networks:,} measured networks. Area: what the front as drawn "
        "dominates by expected values, in points of accuracy above that of R's own architecture "
        "under the penalty minus the floor, times the share that does not transfer. Transfer: of "
        "the network selected, expected, and in how many seeds less than random search's; kept: "
        "how often its expected accuracy is at least the accuracy asked for. Means with Student's "
        "95 % intervals over seeds; gains are seed by "
        f"seed. Even seeds avoid the first reference, odd seeds the others. Alternatives that the "
        f"rule chooses on even seeds: {', '.join(picked) or 'none'}."
        + _FOURFOLD
        * any(name.endswith(FOURFOLD) for name in summary.smooth),
        "## Smooth landscape: the regression",
        _table(summary.smooth, summary.first),
        "## Rough landscapes: every network departs from the regression by its own error",
        _table(summary.rough, summary.first),
        "## What fewer epochs say about the last ones: Kendall's τ in the table",
        _fidelity_table(summary.fidelity),
    ]
    return "\n\n".join(parts)


_FOURFOLD = (
    " Searches called fourfold spend four times as much; their rivals are the fourfold random "
    f"search and {BASE}."
)


def _table(searches: Mapping[str, Search], first: int) -> str:
    head = [
        *("search", "area", f"over {CONTROL}", f"over {BASE}, even", "odd"),
        *("transfer", f"less than {CONTROL}", "kept"),
    ]
    rows = []
    for name, search in searches.items():
        control, base = rivals_of(name)
        gains = [
            "–" if name == rival else _points(gain(searches, name, rival, parity, first=first))
            for rival, parity in ((control, None), (base, CHOOSING), (base, JUDGING))
        ]
        transfer = mean_over_trainings([100 * value for value in search.transfer])
        pairs = zip(search.transfer, searches[control].transfer, strict=True)
        less = sum(own < other for own, other in pairs) / len(search.transfer)
        kept = sum(margin >= 0 for margin in search.margin) / len(search.margin)
        rows.append(
            [
                name,
                format_estimate(mean_over_trainings(list(search.area)), ".2f"),
                *gains,
                format_estimate(transfer, ".1f", unit=" %"),
                "–" if name == control else f"{100 * less:.0f} %",
                f"{100 * kept:.0f} %",
            ]
        )
    return markdown_table(head, rows)


def _fidelity_table(fidelities: Fidelities) -> str:
    epochs = sorted({each for of in fidelities.taus.values() for each in of}, key=int)
    rows = [
        [name, *(f"{of[each]:.2f}" if each in of else "–" for each in epochs)]
        for name, of in fidelities.taus.items()
    ]
    return markdown_table(["number", *(f"{each} epochs" for each in epochs)], rows)


def _points(mean: Mean) -> str:
    return format_estimate(mean, "+.2f")


def curves(searches: Mapping[str, Search]) -> str:
    """Return the median area of every search by cost, with quartiles of random search's.

    Named are the default, random search and those that end highest; the others are grey.
    """
    rivals = {BASE, CONTROL, BASE + FOURFOLD, CONTROL + FOURFOLD} & searches.keys()
    by_end = sorted(searches, key=lambda name: -searches[name].median[-1])
    named = rivals | set([name for name in by_end if name not in rivals][:NAMED])
    with chart(8, 4.6) as drawing:
        axes: Any = drawing.subplots()
        at = [100 * share for share in SHARES]
        for name in searches:
            if name not in named:
                axes.plot(at, searches[name].median, color="0.8", lw=0.8)
        free = iter(PALETTE)
        for name in (each for each in by_end if each in named):
            search = searches[name]
            if name in rivals:
                colour = "black" if name.startswith(CONTROL) else "0.45"
                line = "--" if name.endswith(FOURFOLD) else ":"
            else:
                colour, line = next(free), "-"
            axes.plot(at, search.median, color=colour, ls=line, lw=1.5, label=label(name))
            if name == CONTROL:
                axes.fill_between(at, search.low, search.high, color=colour, alpha=0.08, lw=0)
        axes.set(xlabel="share of the epochs spent (%)", ylabel="area, points")
        axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
        return str(svg(drawing, alt="Median area of every search over what it has spent"))


def figures(summary: Summary) -> Iterable[tuple[str, str]]:
    """Yield the anytime curves of both landscapes."""
    yield "smooth.svg", curves(summary.smooth)
    yield "rough.svg", curves(summary.rough)


register(
    Study(
        name=NAME,
        system=OURS,
        title="Search strategies on the benchmark, over hundreds of seeds",
        source="what every design choice of a search is worth at equal cost",
        scales={
            "smoke": "the benchmark's table, six searches of four seeds; seconds",
            "small": "the benchmark's table, 27 searches of 160 epochs, 200 seeds; some five "
            "core-hours",
        },
        items=(PaperItem(name=NAME, shows="area at equal cost, by expected values"),),
        jobs=jobs,
        summarise=summarise,
        summary=Summary,
        check=check,
        claims=claims,
        render=render,
        figures=figures,
    )
)
register(
    Study(
        name=SECOND,
        system=OURS,
        title="What the best design choices of a search are worth together, and with more budget",
        source="combinations that the first study left open, by its rule and on new seeds",
        scales={
            "smoke": "the benchmark's table, four searches of four seeds; seconds",
            "small": "the benchmark's table, 13 searches of 160 or 640 epochs, 200 seeds; some "
            "two core-hours",
        },
        items=(PaperItem(name=SECOND, shows="area at equal cost, by expected values"),),
        jobs=combined_jobs,
        summarise=summarise,
        summary=Summary,
        check=check,
        claims=partial(claims, item=SECOND),
        render=render,
        figures=figures,
    )
)
