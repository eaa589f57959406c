"""The course of both searches: what was found after how many trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, cast

import numpy as np
from markupsafe import Markup

from evolution.protocol.search import lower_rungs
from evolution.report.comparison import BLUE, COLOURS, ORANGE, PLAYERS, RED, SHOWN
from evolution.report.format import measures_text, share
from evolution.report.run_data import SEARCHES, CandidateTrial, Evidence, lowest_shown
from robustkit.report import Section, figure, house_style, svg
from robustkit.runs import Entry

ARM_COLOURS = {"evolve": BLUE, "random": ORANGE}
BETTER: dict[str, Callable[[float, float], float]] = {"accuracy": max, "transfer": min}
BASELINES = {"R2": (6, 3), "Rp": (1.5, 2)}  # and how their lines are dashed
TITLES = {
    "accuracy": "validation accuracy (%), higher is better",
    "transfer": "transfer from R on validation (%), lower is better",
}


def history_section(evidence: Evidence) -> Section:
    """Accuracy and transfer by trial, for the evolution and the random search of equal budget."""
    held = "R's own accuracy" if evidence.left_out else "R2 at trial budget"
    level = (
        ""
        if evidence.left_out
        else "Level lines: R's own architecture at the budget of a trial, without (R2) and with "
        "the penalty (R′). "
    )
    caption = (
        "Dots are trials, bars the medians of a generation, steps the best so far. The lowest "
        "transfer counts only trials as accurate as the choice asks for"
        f" ({share(evidence.threshold)} here, {held} minus the tolerance): a net that "
        f"has learnt nothing transfers little as well. {level}Crosses: trials that failed; "
        "triangles: less accurate than the axis shows."
    )
    return Section("history", "Search history", figure(_drawn(evidence), caption), _note(evidence))


def best_so_far(
    entries: Sequence[CandidateTrial], measure: str, threshold: float | None
) -> list[float]:
    """The best value after each trial, NaN before there is one.

    For transfer, only trials whose accuracy is at least `threshold` count.
    """
    best = float("nan")
    course = []
    for entry in entries:
        if entry.result is not None:
            counts = measure != "transfer" or (
                threshold is None or entry.result["accuracy"] >= threshold
            )
            if counts:
                value = entry.value(measure)
                best = value if best != best else BETTER[measure](best, value)
        course.append(best)
    return course


def _note(evidence: Evidence) -> str:
    parts = []
    for arm, name in SEARCHES.items():
        lowest = best_so_far(evidence.of(arm), "transfer", evidence.threshold)[-1:]
        said = share(lowest[0]) if lowest and lowest[0] == lowest[0] else "none accurate enough"
        lower = sum(each.arm == lower_rungs(arm) for each in evidence.lower)
        also = f" and {lower} on lower rungs" if lower else ""
        parts.append(f"{name}: {said} after {len(evidence.of(arm))} trials{also}")
    return f"Lowest transfer among accurate candidates. {'; '.join(parts).capitalize()}."


def _drawn(evidence: Evidence) -> Markup:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    tips: dict[str, str] = {}
    with house_style():
        drawing = Figure(figsize=(10, 4), layout="constrained")
        panels = drawing.subplots(1, 2)
        for axes, measure in zip(panels, BETTER, strict=True):
            for arm in SEARCHES:
                _course(axes, evidence, arm, measure, tips)
            _baselines(axes, evidence, measure)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            spent = "trials' worth of epochs spent" if evidence.lower else "trial"
            axes.set(title=TITLES[measure], xlabel=spent)
        handles, labels = panels[0].get_legend_handles_labels()
        drawing.legend(handles, labels, loc="outside lower center", ncols=len(labels))
        return svg(drawing, alt="Accuracy and transfer of both searches, by trial", tips=tips)


def _course(axes: Any, evidence: Evidence, arm: str, measure: str, tips: dict[str, str]) -> None:
    entries, colour = sorted(evidence.of(arm), key=lambda each: each.moment), ARM_COLOURS[arm]
    bottom = lowest_shown(evidence) if measure == "accuracy" else 0.0
    numbers = [entry.moment for entry in entries]
    best = [100 * value for value in best_so_far(entries, measure, evidence.threshold)]
    # The first is the broader one, so that both are seen where they coincide.
    width = 3.4 if arm == "evolve" else 1.5
    label = f"{SEARCHES[arm]}, best so far"
    axes.step(numbers, best, where="post", color=colour, lw=width, label=label)
    for entry, number in zip(entries, numbers, strict=True):
        gid = f"{measure}-{entry.trial.id.replace('/', '-')}"
        tips[gid] = _tip(entry)
        if entry.result is None:
            where = axes.get_xaxis_transform()
            mark = axes.plot([number], [0.02], "x", color=RED, transform=where, clip_on=False)
        else:
            value = 100 * entry.value(measure)
            style = {"color": colour, "alpha": 0.5, "markersize": 4.5}
            mark = axes.plot(
                [number], [max(value, bottom)], "o" if value >= bottom else "v", **style
            )
        mark[0].set_gid(gid)
    halved = any(each.arm == lower_rungs(arm) for each in evidence.lower)
    for first, last, middle in [] if halved else _medians(entries, measure):
        axes.plot(
            [first - 0.35, last + 0.35],
            [max(100 * middle, bottom)] * 2,
            color=colour,
            alpha=0.45,
            lw=4,
        )


def _medians(entries: Sequence[CandidateTrial], measure: str) -> list[tuple[int, int, float]]:
    """First and last trial and median of every generation with at least two that succeeded."""
    generations: dict[int, list[CandidateTrial]] = {}
    for entry in entries:
        generations.setdefault(entry.candidate.generation, []).append(entry)
    spans = []
    for members in generations.values():
        values = [entry.value(measure) for entry in members if entry.result is not None]
        if len(values) > 1:
            numbers = [entry.candidate.number + 1 for entry in members]
            spans.append((min(numbers), max(numbers), median(values)))
    return spans


def _baselines(axes: Any, evidence: Evidence, measure: str) -> None:
    for name, dashes in BASELINES.items():
        value = evidence.baseline(name, measure)
        if value is None:
            continue
        label = f"{SHOWN[name]} at trial budget"
        style = {"color": "#000000", "alpha": 0.75, "lw": 1.1, "label": label}
        axes.axhline(100 * value, ls=(0, dashes), **style)


def _tip(entry: CandidateTrial) -> str:
    name = f"{SEARCHES[entry.arm]}, candidate {entry.candidate.number}"
    bred = f"generation {entry.candidate.generation + 1}, {entry.candidate.operator}"
    if entry.result is None:
        return f"{name}\n{bred}\n{entry.trial.outcome}: {entry.trial.reason}"
    return f"{name}\n{bred}\n{measures_text(entry.result)}"


CURVE_TITLES = {
    "train_loss": "training loss (nats)",
    "penalty": "misalignment penalty",
    "val_acc": "validation accuracy",
}
DASHES = {"S": (4, 2), "RS": (2, 1.5)}  # RS may be the same net as E, and hide it
Curves = dict[str, list[list[float]]]


def curves_section(evidence: Evidence) -> Section:
    """Curves of every net that was trained in full; thin lines are single trainings."""
    players = {name: _curves(evidence.trials, name) for name in (*PLAYERS, "S")}
    panels = [name for name in CURVE_TITLES if any(curves.get(name) for curves in players.values())]
    if not panels:
        return Section("training", "Training curves", Markup("<p>No curves were kept.</p>"))
    caption = (
        "Thick: the mean over trainings; thin: each of them. Finalists train on training and "
        "validation images together, so that only R and the surrogate S have a validation curve."
    )
    html = figure(_curves_drawn(players, panels), caption)
    return Section("training", "Training curves", html)


def _curves(trials: Sequence[Entry], player: str) -> Curves:
    """All finished curves of a player's trainings by name; those with gaps are left out."""
    found: Curves = {}
    for trial in trials:
        made, _, name = trial.id.partition("/")
        if made not in ("reference", "final") or name.split("-")[0] != player or not trial.result:
            continue
        curves = cast(dict[str, list[float | None]], trial.result.get("curves", {}))
        for curve in CURVE_TITLES:
            values = [value for value in curves.get(curve, []) if value is not None]
            if values and len(values) == len(curves[curve]):
                found.setdefault(curve, []).append(values)
    return found


def _curves_drawn(players: dict[str, Curves], panels: Sequence[str]) -> Markup:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    handles: dict[str, Any] = {}
    with house_style():
        drawing = Figure(figsize=(10, 3.5), layout="constrained")
        for axes, curve in zip(
            drawing.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
        ):
            for player, curves in players.items():
                if curves.get(curve):
                    handles.setdefault(SHOWN[player], _lines(axes, curves[curve], player))
            if curve == "train_loss":
                axes.set_yscale("log")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set(title=CURVE_TITLES[curve], xlabel="epoch")
        drawing.legend(
            handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles)
        )
        return svg(drawing, alt="Training curves of the nets compared")


def _lines(axes: Any, curves: Sequence[Sequence[float]], player: str) -> Any:
    """Every training and their mean; returns the mean's line."""
    style: dict[str, Any] = {"color": COLOURS[player]}
    if player in DASHES:
        style["ls"] = (0, DASHES[player])
    for values in curves if len(curves) > 1 else ():
        axes.plot(range(1, len(values) + 1), values, lw=0.6, alpha=0.45, **style)
    epochs = min(len(values) for values in curves)
    mean = np.mean([values[:epochs] for values in curves], axis=0)
    marker = "o" if epochs == 1 else None
    (line,) = axes.plot(range(1, epochs + 1), mean, marker=marker, **style)
    return line
