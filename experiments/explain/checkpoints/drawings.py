"""Figures over the epochs of a training, as SVG."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from experiments.explain.checkpoints.result import Brief, EpochTold, Summary
from experiments.explain.drawings import LINES
from experiments.explain.result import Mean
from experiments.explain.scores import CONTROLS
from robustkit.runs.report import PALETTE, house_style, label, svg

NAN = float("nan")
ANSWERS = {
    "validation accuracy": {"color": "black", "linestyle": "-"},
    "probability of the class": {"color": "0.5", "linestyle": "--"},
}
Points = list[tuple[int, float]]


def stability_figure(summary: Summary) -> Markup:
    """Rank correlation of the maps with the last and with the previous epoch's, and beside them
    validation accuracy where it is known, and the mean probability of the class."""
    final: dict[str, Points] = {}
    previous: dict[str, Points] = {}
    for name, found in summary["changes"].items():
        final[name] = [(each["epoch"], _mean(each["final"]["signed"])) for each in found]
        pairs = [(each["epoch"], each["previous"]) for each in found]
        previous[name] = [(epoch, _mean(each["signed"])) for epoch, each in pairs if each]
    titles = ["Spearman, with the last epoch", "Spearman, with the one before", "the training"]
    return _drawn([final, previous, _answers(summary["epochs"])], titles, "maps over epochs")


def _answers(epochs: Sequence[EpochTold]) -> dict[str, Points]:
    known = [(each["epoch"], each["val_acc"]) for each in epochs if each["val_acc"] is not None]
    sure = []
    for each in epochs:
        said = [image["probability"] for image in each["images"]]
        sure.append((each["epoch"], sum(said) / len(said)))
    return {name: points for name, points in zip(ANSWERS, (known, sure), strict=True) if points}


def scores_figure(epochs: Sequence[EpochTold]) -> Markup:
    """Deletion, insertion, sanity and stability of every map, by epoch."""
    scores = [(each["epoch"], each["scores"] or {}) for each in epochs]
    names = list(scores[-1][1])
    methods = [name for name in names if name not in CONTROLS]

    def curves(chosen: list[str], mean_of: Callable[[Brief], Mean]) -> dict[str, Points]:
        return {
            name: [(epoch, _mean(mean_of(told[name]))) for epoch, told in scores] for name in chosen
        }

    panels = {
        "deletion": curves(names, lambda brief: brief["deletion"]),
        "insertion": curves(names, lambda brief: brief["insertion"]),
        "sanity": curves(methods, lambda brief: brief["sanity"]["signed"]),
        "stability": curves(methods, lambda brief: brief["stability"]["signed"]),
    }
    alt = "deletion, insertion, sanity and stability by epoch"
    return _drawn(list(panels.values()), list(panels), alt)


def _mean(found: Mean) -> float:
    return NAN if found["mean"] is None else found["mean"]


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
        drawing.legend(known.values(), map(label, known), loc="outside lower center", **look)
        return svg(drawing, alt=alt)


def _look(name: str, number: int) -> dict[str, Any]:
    if name in CONTROLS:
        return {"color": "0.6", "linestyle": LINES[1 + CONTROLS.index(name)]}
    if name in ANSWERS:
        return dict(ANSWERS[name])
    colour = PALETTE[number % len(PALETTE)]
    return {"color": colour, "linestyle": LINES[number // len(PALETTE) % len(LINES)]}
