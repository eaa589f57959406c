"""The progress of both searches by trial, and the training curves of the nets compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np
from markupsafe import Markup

from evolution.protocol.result import Training
from evolution.protocol.roles import COMPARED, SURROGATE, id_of
from evolution.report.comparison import BLUE, COLOURS, ORANGE, RED, SHOWN
from evolution.report.format import measures_text, share
from evolution.report.run_data import SEARCHES, CandidateTrial, Evidence, lowest_shown
from robustkit.report import Section, chart, figure, svg
from robustkit.runs import Entry

SEARCH_COLOURS = {"evolve": BLUE, "random": ORANGE}
BETTER: dict[str, Callable[[float, float], float]] = {"accuracy": max, "transfer": min}
BASELINES = {"R2": (6, 3), "Rp": (1.5, 2)}  # and how their lines are dashed
TITLES = {
    "accuracy": "validation accuracy (%), higher is better",
    "transfer": "transfer from R on validation (%), lower is better",
}


def history_section(evidence: Evidence) -> Section:
    """Return accuracy and transfer by trial, of evolution and random search of equal budget."""
    threshold = "R2 at trial budget" if evidence.summary.baseline else "R's own accuracy"
    level = (
        ""
        if not evidence.summary.baseline
        else "Level lines: R's own architecture at the budget of a trial, without (R2) and with "
        "the penalty (R′). "
    )
    caption = (
        "Dots are trials, bars the medians of a generation, steps the best so far. The lowest "
        "transfer counts only trials as accurate as the selection asks for"
        f" ({share(evidence.threshold)} here, {threshold} minus the tolerance): a net that "
        f"has learnt nothing transfers little as well. {level}Crosses: trials that failed; "
        "triangles: less accurate than the axis shows."
    )
    return Section("history", "Search history", figure(_drawn(evidence), caption), _note(evidence))


def best_so_far(
    trials: Sequence[CandidateTrial], measure: str, threshold: float | None
) -> list[float]:
    """Return the best value after each trial, NaN before there is one.

    For transfer, only trials whose accuracy is at least `threshold` count.
    """
    best = float("nan")
    course = []
    for trial in trials:
        if trial.result is not None:
            counts = measure != "transfer" or (
                threshold is None or trial.result.accuracy >= threshold
            )
            if counts:
                value = trial.value(measure)
                best = value if best != best else BETTER[measure](best, value)
        course.append(best)
    return course


def _note(evidence: Evidence) -> str:
    parts = []
    for search, name in SEARCHES.items():
        lowest = best_so_far(evidence.trials_of(search), "transfer", evidence.threshold)[-1:]
        accuracy = share(lowest[0]) if lowest and lowest[0] == lowest[0] else "none accurate enough"
        lower = len(evidence.lower_of(search))
        also = f" and {lower} on lower rungs" if lower else ""
        parts.append(f"{name}: {accuracy} after {len(evidence.trials_of(search))} trials{also}")
    return f"Lowest transfer among accurate candidates. {'; '.join(parts).capitalize()}."


def _drawn(evidence: Evidence) -> Markup:
    from matplotlib.ticker import MaxNLocator

    tips: dict[str, str] = {}
    with chart(10, 4) as drawing:
        panels = drawing.subplots(1, 2)
        for axes, measure in zip(panels, BETTER, strict=True):
            for search in SEARCHES:
                _course(axes, evidence, search, measure, tips)
            _baselines(axes, evidence, measure)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            spent = "trials' worth of epochs spent" if evidence.lower else "trial"
            axes.set(title=TITLES[measure], xlabel=spent)
        handles, labels = panels[0].get_legend_handles_labels()
        drawing.legend(handles, labels, loc="outside lower center", ncols=len(labels))
        return svg(drawing, alt="Accuracy and transfer of both searches, by trial", tips=tips)


def _course(axes: Any, evidence: Evidence, search: str, measure: str, tips: dict[str, str]) -> None:
    trials, colour = (
        sorted(evidence.trials_of(search), key=lambda trial: trial.moment),
        SEARCH_COLOURS[search],
    )
    bottom = lowest_shown(evidence) if measure == "accuracy" else 0.0
    numbers = [trial.moment for trial in trials]
    best = [100 * value for value in best_so_far(trials, measure, evidence.threshold)]
    # The first is the broader one, so that both are seen where they coincide.
    width = 3.4 if search == "evolve" else 1.5
    label = f"{SEARCHES[search]}, best so far"
    axes.step(numbers, best, where="post", color=colour, lw=width, label=label)
    for trial, number in zip(trials, numbers, strict=True):
        gid = f"{measure}-{trial.entry.id.replace('/', '-')}"
        tips[gid] = _tip(trial)
        if trial.result is None:
            where = axes.get_xaxis_transform()
            mark = axes.plot([number], [0.02], "x", color=RED, transform=where, clip_on=False)
        else:
            value = 100 * trial.value(measure)
            style = {"color": colour, "alpha": 0.5, "markersize": 4.5}
            mark = axes.plot(
                [number], [max(value, bottom)], "o" if value >= bottom else "v", **style
            )
        mark[0].set_gid(gid)
    for first, last, middle in [] if evidence.lower_of(search) else _medians(trials, measure):
        axes.plot(
            [first - 0.35, last + 0.35],
            [max(100 * middle, bottom)] * 2,
            color=colour,
            alpha=0.45,
            lw=4,
        )


def _medians(trials: Sequence[CandidateTrial], measure: str) -> list[tuple[int, int, float]]:
    """Return first and last trial and median of generations with at least two successes."""
    generations: dict[int, list[CandidateTrial]] = {}
    for trial in trials:
        generations.setdefault(trial.candidate.generation, []).append(trial)
    spans = []
    for members in generations.values():
        values = [trial.value(measure) for trial in members if trial.result is not None]
        if len(values) > 1:
            numbers = [trial.candidate.number + 1 for trial in members]
            spans.append((min(numbers), max(numbers), median(values)))
    return spans


def _baselines(axes: Any, evidence: Evidence, measure: str) -> None:
    for name, dashes in BASELINES.items():
        measured = evidence.baseline(name)
        if measured is None:
            continue
        value = measured.accuracy if measure == "accuracy" else measured.transfer
        label = f"{SHOWN[name]} at trial budget"
        style = {"color": "#000000", "alpha": 0.75, "lw": 1.1, "label": label}
        axes.axhline(100 * value, ls=(0, dashes), **style)


def _tip(trial: CandidateTrial) -> str:
    name = f"{SEARCHES[trial.search]}, candidate {trial.candidate.number}"
    bred = f"generation {trial.candidate.generation + 1}, {trial.candidate.operator}"
    if trial.result is None:
        return f"{name}\n{bred}\n{trial.entry.outcome}: {trial.entry.reason}"
    return f"{name}\n{bred}\n{measures_text(trial.result)}"


CURVE_TITLES = {
    "train_loss": "training loss (nats)",
    "penalty": "misalignment penalty",
    "val_acc": "validation accuracy",
}
DASHES = {"S": (4, 2), "RS": (2, 1.5)}  # RS may be the same net as E, and hide it
Curves = dict[str, list[list[float]]]


def curves_section(evidence: Evidence) -> Section:
    """Return curves of every net that was trained in full; thin lines are single trainings."""
    by_role = {name: _curves(evidence.entries, name) for name in (*COMPARED, SURROGATE)}
    panels = [name for name in CURVE_TITLES if any(curves.get(name) for curves in by_role.values())]
    if not panels:
        return Section("training", "Training curves", Markup("<p>No curves were kept.</p>"))
    caption = (
        "Thick: the mean over trainings; thin: each of them. Final trainings use training and "
        "validation images together, so that only R and the surrogate S have a validation curve."
    )
    html = figure(_curves_drawn(by_role, panels), caption)
    return Section("training", "Training curves", html)


def _curves(entries: Sequence[Entry], role: str) -> Curves:
    """Return all finished curves of a role's trainings by name, without those that have gaps."""
    finished: Curves = {}
    for entry in entries:
        trial_id = id_of(entry)
        trained = trial_id.stage in ("reference", "final") and trial_id.role == role
        if not trained or not entry.result:
            continue
        curves = Training.from_json(entry.result, entry.id).curves
        for name in CURVE_TITLES:
            curve: list[float | None] = getattr(curves, name)
            values = [value for value in curve if value is not None]
            if values and len(values) == len(curve):
                finished.setdefault(name, []).append(values)
    return finished


def _curves_drawn(by_role: dict[str, Curves], panels: Sequence[str]) -> Markup:
    from matplotlib.ticker import MaxNLocator

    handles: dict[str, Any] = {}
    with chart(10, 3.5) as drawing:
        for axes, curve in zip(
            drawing.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
        ):
            for role, curves in by_role.items():
                if curves.get(curve):
                    handles.setdefault(SHOWN[role], _lines(axes, curves[curve], role))
            if curve == "train_loss":
                axes.set_yscale("log")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set(title=CURVE_TITLES[curve], xlabel="epoch")
        drawing.legend(
            handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles)
        )
        return svg(drawing, alt="Training curves of the nets compared")


def _lines(axes: Any, curves: Sequence[Sequence[float]], role: str) -> Any:
    """Draw every training and their mean; return the mean's line."""
    style: dict[str, object] = {"color": COLOURS[role]}
    if role in DASHES:
        style["ls"] = (0, DASHES[role])
    for values in curves if len(curves) > 1 else ():
        axes.plot(range(1, len(values) + 1), values, lw=0.6, alpha=0.45, **style)
    epochs = min(len(values) for values in curves)
    mean = np.mean([values[:epochs] for values in curves], axis=0)
    marker = "o" if epochs == 1 else None
    (line,) = axes.plot(range(1, epochs + 1), mean, marker=marker, **style)
    return line
