"""The report of a search on the benchmark, drawn from its finished run folder alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from evolution.benchmark.config import BenchmarkConfig
from evolution.benchmark.result import Measures, Summary, pairs, read_searches
from evolution.benchmark.search import (
    SEARCHES,
    Searched,
    Spent,
    seen_front,
    selected,
)
from evolution.objectives import dominated_area
from evolution.report.format import architecture_lines, brief, compact, plural, share
from robustkit.report import PALETTE, Section, cards, chart, figure, svg, table, write_page
from robustkit.report.sections import settings_section
from robustkit.runs import Ledger, RunFolder
from robustkit.runs.summaries import read_settings, read_summary

NAMES = {"evolve": "evolution", "random": "random search"}
COLOURS = {"evolve": PALETTE[0], "random": PALETTE[1]}
_READING = (
    "No network was trained here. A trial is a training drawn from a regression on the networks of "
    "the benchmark's table, with the noise that repeated trainings were measured to have.",
    "As drawn is what the search saw, and selected by; expected is the regression's mean over "
    "trainings, which no luck can improve. The difference between both is the price of selecting "
    "the luckiest of many.",
    "The area is what networks dominate in accuracy above that of R's own architecture minus the "
    "floor, in points, times the share of adversarials that do not transfer. Of each search those "
    "networks count that were on its front as drawn.",
    "R is the benchmark's first reference; its own architecture is trained with the same penalty "
    "as the candidates. Transfer is the mean over the benchmark's references; unseen is that from "
    "second trainings of these, which took no part in the penalty.",
    "One search has one seed: a difference between both searches here is no evidence for one of "
    "them. The study of strategies repeats them over hundreds of seeds.",
)


def write_benchmark_report(folder: RunFolder) -> Path:
    """Draw `report.html` of a finished run from its folder; return its path.

    Raises `RunError` when the run has not finished, or its ledger or summary is damaged.
    """
    summary = read_summary(folder, Summary)
    config = read_settings(folder, BenchmarkConfig)
    with Ledger.read(folder.file("ledger.sqlite")) as ledger:
        searches = read_searches(ledger.in_order(), config)
    sections = [
        _result_section(summary),
        _history_section(searches, summary, config),
        _front_section(searches, summary),
        _networks_section(summary, searches),
        Section("reading", "How to read the results", _paragraphs(_READING)),
        settings_section(folder.config),
    ]
    return write_page(
        folder,
        "Evolution on the benchmark",
        sections,
        subtitle=f"{config.strategy}, {plural(config.search_epochs, 'epoch')} and as many of "
        f"random search, on {summary.networks:,} measured networks",
        facts={"table": f"sha256 {summary.table}…"},
    )


def _result_section(summary: Summary) -> Section:
    best, control, own = (
        summary.evolve.selected.expected,
        summary.random.selected.expected,
        summary.baseline,
    )
    facts = [
        (
            "transfer of evolution's network",
            share(best.transfer),
            f"expected; random search {share(control.transfer)}, R's own architecture "
            f"{share(own.transfer)}",
        ),
        (
            "its accuracy",
            share(best.accuracy),
            f"expected; {share(summary.threshold)} are asked for, of random search's "
            f"{share(control.accuracy)}",
        ),
        (
            "area",
            f"{summary.evolve.area:.2f}",
            f"points, expected; random search {summary.random.area:.2f}",
        ),
    ]
    kept = best.accuracy >= summary.threshold
    sentence = (
        f"By what is expected of it, the network that evolution selected "
        f"{'keeps' if kept else 'does not keep'} the accuracy asked for. As drawn, its accuracy "
        f"was {share(summary.evolve.selected.seen.accuracy)} and its transfer "
        f"{share(summary.evolve.selected.seen.transfer)}."
    )
    return Section("result", "Result", cards(facts) + _paragraphs([sentence]))


def course(search: Searched, score: Callable[[Sequence[Spent]], float]) -> list[tuple[int, float]]:
    """Return the epochs spent and the score of the whole trials by then, after each of them."""
    whole: list[Spent] = []
    points = []
    for each in search.whole:
        whole.append(each)
        points.append((each.total, score(whole)))
    return points


def _history_section(
    searches: dict[str, Searched], summary: Summary, config: BenchmarkConfig
) -> Section:
    corner = summary.baseline.accuracy - config.floor

    def area(expected: bool) -> Callable[[Sequence[Spent]], float]:
        return lambda trials: dominated_area(pairs(seen_front(trials), expected=expected), corner)

    def transfer(expected: bool) -> Callable[[Sequence[Spent]], float]:
        def of(trials: Sequence[Spent]) -> float:
            best = selected(trials, summary.threshold)
            if best.seen["accuracy"] < summary.threshold:
                return float("nan")
            return 100 * (best.expected if expected else best.seen)["transfer"]

        return of

    with chart(10, 4) as drawing:
        panels: Any = drawing.subplots(1, 2)
        for name, search in searches.items():
            for axes, score in zip(panels, (area, transfer), strict=True):
                for expected in (True, False):
                    points = course(search, score(expected))
                    axes.step(
                        [epochs for epochs, _ in points],
                        [value for _, value in points],
                        where="post",
                        color=COLOURS[name],
                        ls="-" if expected else ":",
                        label=f"{NAMES[name]}, {'expected' if expected else 'as drawn'}",
                    )
        panels[0].set(title="area (points), larger is better", xlabel="epochs spent")
        panels[1].axhline(100 * summary.baseline.transfer, color="#000000", lw=1, ls="--")
        panels[1].set(
            title="transfer of the network selected (%), lower is better", xlabel="epochs spent"
        )
        handles, labels = panels[0].get_legend_handles_labels()
        drawing.legend(handles, labels, loc="outside lower center", ncols=4)
        drawn = svg(drawing, alt="Area and transfer of both searches by what they had spent")
    caption = (
        "What each search would have selected after so many epochs. Dashed: R's own architecture "
        f"under the penalty. Transfer counts from {share(summary.threshold)} of accuracy on."
    )
    return Section("history", "Search history", figure(drawn, caption))


def _front_section(searches: dict[str, Searched], summary: Summary) -> Section:
    tips: dict[str, str] = {}
    with chart(10, 5) as drawing:
        axes: Any = drawing.subplots()
        for name, search in searches.items():
            chosen = {each.number for each in getattr(summary, name).front}
            for each in search.whole:
                number, expected = each.trial.number, each.expected
                on_front = number in chosen
                gid = f"{name}-{number}"
                mark = axes.scatter(
                    [100 * expected["accuracy"]],
                    [100 * expected["transfer"]],
                    s=26,
                    color=COLOURS[name],
                    alpha=0.85 if on_front else 0.4,
                    edgecolors="#000000" if on_front else "none",
                    linewidths=1.3 if on_front else 0,
                    zorder=3 + on_front,
                )
                mark.set_gid(gid)
                tips[gid] = _tip(name, each)
            axes.scatter([], [], color=COLOURS[name], label=NAMES[name])
        axes.scatter([], [], color="none", edgecolors="#000000", label="on the front as drawn")
        own = summary.baseline
        axes.scatter(
            [100 * own.accuracy],
            [100 * own.transfer],
            marker="D",
            s=44,
            facecolors="#ffffff",
            edgecolors="#000000",
            zorder=5,
            label="R's own architecture",
        )
        axes.axvline(100 * summary.threshold, color="#000000", lw=0.9, ls=":")
        axes.set(xlabel="expected accuracy (%)", ylabel="expected transfer (%)")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4)
        drawn = svg(drawing, alt="Expected accuracy and transfer of all candidates", tips=tips)
    caption = (
        "Every candidate that was trained for all epochs, by what is expected of it. Ringed: on "
        "the front of its search as drawn. Dotted: the accuracy asked for. Down and to the right "
        "is better."
    )
    return Section("front", "Front", figure(drawn, caption))


def _tip(name: str, each: Spent) -> str:
    seen, expected = each.seen, each.expected
    lines = [
        f"{NAMES[name]}, candidate {each.trial.number}",
        f"accuracy {share(expected['accuracy'])}, drawn {share(seen['accuracy'])}",
        f"transfer {share(expected['transfer'])}, drawn {share(seen['transfer'])}",
        "",
        *architecture_lines(each.trial.candidate.genotype),
    ]
    return "\n".join(lines)


def _networks_section(summary: Summary, searches: dict[str, Searched]) -> Section:
    rows: list[list[Any]] = [["R's own", *_cells(summary.baseline, None), ""]]
    for name in SEARCHES:
        by_number = {each.trial.number: each for each in searches[name].whole}
        result = getattr(summary, name)
        for network in [result.selected, *result.front]:
            what = "selected" if network is result.selected else "front"
            spent = by_number.get(network.number)
            rows.append(
                [
                    f"{NAMES[name]} {network.number}, {what}",
                    *_cells(network.expected, network.seen),
                    "" if spent is None else brief(spent.trial.candidate.genotype),
                ]
            )
    headers = [
        *("network", "accuracy", "drawn", "transfer", "drawn"),
        *("unseen", "MACs", "blocks"),
    ]
    caption = "What was selected, and the fronts as drawn. Values are expected ones or drawn ones."
    return Section("networks", "Networks", table(headers, rows, caption=caption))


def _cells(expected: Measures, seen: Measures | None) -> list[str]:
    return [
        share(expected.accuracy),
        share(None if seen is None else seen.accuracy),
        share(expected.transfer),
        share(None if seen is None else seen.transfer),
        share(expected.unseen),
        compact(expected.macs),
    ]


def _paragraphs(texts: Sequence[str]) -> Markup:
    return Markup("\n").join(Markup("<p>{}</p>").format(text) for text in texts)
