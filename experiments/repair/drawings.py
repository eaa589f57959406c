"""The figures of a repair's report."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from experiments.repair.result import Outcome, RunResult, Summary
from robustkit.runs.report import PALETTE, house_style, svg


def trace_figure(runs: Sequence[RunResult]) -> Markup:
    """Best fitness over iterations, a line for each run."""
    from matplotlib.figure import Figure

    with house_style():
        drawing = Figure(figsize=(6.4, 2.8), layout="constrained")
        axes = drawing.subplots()
        for run in runs:
            trace = [math.nan if each is None else each for each in run["trace"]]
            axes.plot(range(1, len(trace) + 1), trace, color=PALETTE[0], alpha=0.7)
            if (before := run["fitness_before"]) is not None:
                axes.axhline(before, color=PALETTE[-1], linewidth=1, linestyle="--")
        axes.set(xlabel="iteration", ylabel="fitness")
        return svg(drawing, alt="best fitness over the iterations of each run")


def runs_figure(summary: Summary) -> Markup:
    """RR over BR of every run, and a box of the accuracies, repaired on and held out."""
    from matplotlib.figure import Figure

    with house_style():
        drawing = Figure(figsize=(7.2, 3.0), layout="constrained")
        rates, boxes = drawing.subplots(1, 2, width_ratios=(3, 2))
        sets: dict[str, list[Outcome]] = {"repaired on": [*summary["runs"]]}
        if summary["held_out"] is not None:
            others = (run["held_out"] for run in summary["runs"])
            sets["held out"] = [each for each in others if each is not None]
        accuracies, before = [], []
        for colour, (name, runs) in zip(PALETTE, sets.items(), strict=False):
            told = [(run["rr"], run["br"]) for run in runs]
            known = [(rr, br) for rr, br in told if rr is not None and br is not None]
            rates.scatter(
                [100 * rr for rr, _ in known],
                [100 * br for _, br in known],
                color=colour,
                label=name,
            )
            accuracies.append([100 * run["acc_after"] for run in runs])
            before.append(100 * runs[0]["acc_before"])
        rates.set(xlabel="repair rate, %", ylabel="break rate, %")
        rates.margins(0.12)
        rates.set_xlim(left=0)
        rates.set_ylim(bottom=0)
        rates.legend()
        boxes.boxplot(accuracies, widths=0.5)
        boxes.set_xticks(range(1, len(sets) + 1), list(sets))
        for place, value in enumerate(before, start=1):
            boxes.hlines(value, place - 0.4, place + 0.4, color=PALETTE[1], linestyle="--")
        boxes.set(ylabel="accuracy, %")
        return svg(drawing, alt="repair and break rates, and accuracies, of every run")
