"""How the nets of the comparison were trained: loss, penalty and validation accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from markupsafe import Markup

from experiments.evolve.report.evidence import Evidence
from experiments.evolve.report.players import COLOURS, PLAYERS, SHOWN
from robustkit.runs import Trial
from robustkit.runs.report import Section, figure, house_style, svg

TITLES = {
    "train_loss": "training loss (nats)",
    "penalty": "misalignment penalty",
    "val_acc": "validation accuracy",
}
DASHES = {"S": (4, 2), "RS": (2, 1.5)}  # RS may be the same net as E, and hide it
Curves = dict[str, list[list[float]]]


def curves_section(evidence: Evidence) -> Section:
    """Curves of every net that was trained in full; thin lines are single trainings."""
    players = {name: _curves(evidence.trials, name) for name in (*PLAYERS, "S")}
    panels = [name for name in TITLES if any(curves.get(name) for curves in players.values())]
    if not panels:
        return Section("training", "Training curves", Markup("<p>No curves were kept.</p>"))
    caption = (
        "Thick: the mean over trainings; thin: each of them. Finalists train on training and "
        "validation images together, so that only R and the surrogate S have a validation curve."
    )
    html = figure(_drawn(players, panels), caption)
    return Section("training", "Training curves", html)


def _curves(trials: Sequence[Trial], player: str) -> Curves:
    """All finished curves of a player's trainings by name; those with gaps are left out."""
    found: Curves = {}
    for trial in trials:
        made, _, name = trial.id.partition("/")
        if made not in ("reference", "final") or name.split("-")[0] != player or not trial.result:
            continue
        curves = cast(dict[str, list[float | None]], trial.result.get("curves", {}))
        for curve in TITLES:
            values = [value for value in curves.get(curve, []) if value is not None]
            if values and len(values) == len(curves[curve]):
                found.setdefault(curve, []).append(values)
    return found


def _drawn(players: dict[str, Curves], panels: Sequence[str]) -> Markup:
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
            axes.set(title=TITLES[curve], xlabel="epoch")
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
