"""Figures over the epochs of a training, as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from experiments.explain.drawings import LINES
from experiments.explain.scores import CONTROLS
from robustkit.runs.report import PALETTE, house_style, svg

NAN = float("nan")
ANSWERS = {
    "validation accuracy": {"color": "black", "linestyle": "-"},
    "probability of the class": {"color": "0.5", "linestyle": "--"},
}
Points = list[tuple[int, float]]


def stability_figure(summary: Mapping[str, Any]) -> Markup:
    """Rank correlation of the maps with the last and with the previous epoch's, and beside them
    validation accuracy where it is known, and the mean probability of the class."""
    curves: list[dict[str, Points]] = [
        {
            name: [(each["epoch"], _mean(each[kind])) for each in found if each[kind] is not None]
            for name, found in summary["changes"].items()
        }
        for kind in ("final", "previous")
    ]
    titles = ["Spearman, with the last epoch", "Spearman, with the one before"]
    return _drawn(
        [*curves, _answers(summary["epochs"])], [*titles, "the training"], "maps over epochs"
    )


def _answers(epochs: Sequence[Mapping[str, Any]]) -> dict[str, Points]:
    known = [(each["epoch"], each["val_acc"]) for each in epochs if each["val_acc"] is not None]
    sure = []
    for each in epochs:
        said = [image["probability"] for image in each["images"]]
        sure.append((each["epoch"], sum(said) / len(said)))
    return {name: points for name, points in zip(ANSWERS, (known, sure), strict=True) if points}


def scores_figure(epochs: Sequence[Mapping[str, Any]]) -> Markup:
    """Deletion, insertion, sanity and stability of every map, by epoch."""
    methods = [name for name in epochs[-1]["scores"] if name not in CONTROLS]
    kinds = ("deletion", "insertion", "sanity", "stability")
    curves: list[dict[str, Points]] = []
    for kind in kinds:
        names = epochs[-1]["scores"] if kind in ("deletion", "insertion") else methods
        curves.append(
            {name: [(e["epoch"], _mean(e["scores"][name][kind])) for e in epochs] for name in names}
        )
    return _drawn(curves, list(kinds), "deletion, insertion, sanity and stability by epoch")


def _mean(found: Mapping[str, Any]) -> float:
    mean = found.get("signed", found)["mean"]
    return NAN if mean is None else float(mean)


def _drawn(panels: Sequence[Mapping[str, Points]], titles: Sequence[str], alt: str) -> Markup:
    """One panel beside the other, over the same epochs; what has the same name looks the same."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    with house_style():
        drawing = Figure(figsize=(10, 3.4), layout="constrained")
        known: dict[str, Any] = {}
        places = drawing.subplots(1, len(panels), sharex=True)
        for place, curves, title in zip(places, panels, titles, strict=True):
            for number, (name, points) in enumerate(curves.items()):
                if points:
                    epochs, heights = zip(*points, strict=True)
                    known[name] = place.plot(epochs, heights, marker=".", **_look(name, number))[0]
            lowest = min((y for each in curves.values() for _, y in each), default=0.0)
            place.set(title=title, xlabel="epoch", ylim=(min(0.0, lowest) - 0.05, 1.05))
            place.xaxis.set_major_locator(MaxNLocator(integer=True))
        look: Any = {"fontsize": 8, "ncols": 6, "handlelength": 3}
        drawing.legend(known.values(), known.keys(), loc="outside lower center", **look)
        return svg(drawing, alt=alt)


def _look(name: str, number: int) -> dict[str, Any]:
    if name in CONTROLS:
        return {"color": "0.6", "linestyle": LINES[1 + CONTROLS.index(name)]}
    if name in ANSWERS:
        return dict(ANSWERS[name])
    colour = PALETTE[number % len(PALETTE)]
    return {"color": colour, "linestyle": LINES[number // len(PALETTE) % len(LINES)]}
