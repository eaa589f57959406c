"""Figures of an adaptation's report."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from markupsafe import Markup

from experiments.adapt.result import Recipe
from robustkit.runs.report import PALETTE, house_style, label, svg


def curves_figure(recipes: Mapping[str, Recipe]) -> Markup:
    """The loss over the steps, a line for each training."""
    from matplotlib.figure import Figure

    with house_style():
        drawing = Figure(figsize=(7.6, 3.2), layout="constrained")
        place = drawing.subplots()
        for number, (name, found) in enumerate(recipes.items()):
            for run, curve in enumerate(found["curves"]):
                if curve:
                    steps, losses = zip(*curve, strict=True)
                    colour = PALETTE[number % len(PALETTE)]
                    place.plot(steps, losses, color=colour, lw=1, label=None if run else name)
        place.set(xlabel="steps of its own", ylabel="loss")
        if place.lines:
            place.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
        return svg(drawing, alt="loss over the steps of every training")


def classes_figure(recipes: Mapping[str, Recipe]) -> Markup:
    """AP50 of every class on the target, a bar for each recipe, with its interval."""
    from matplotlib.figure import Figure

    names = list(next(iter(recipes.values()))["target"]["classes"])
    width = 0.8 / len(recipes)
    with house_style():
        drawing = Figure(figsize=(max(7.6, 0.5 * len(names)), 3.2), layout="constrained")
        place = drawing.subplots()
        for number, (name, found) in enumerate(recipes.items()):
            known = [found["target"]["classes"][each]["ap50_area"] for each in names]
            heights = [100 * (each["mean"] or 0) for each in known]
            across = np.arange(len(names)) + (number - (len(recipes) - 1) / 2) * width
            colour = PALETTE[number % len(PALETTE)]
            place.bar(across, heights, width, label=name, color=colour)
        place.set_xticks(
            range(len(names)), [label(each) for each in names], rotation=45 if len(names) > 8 else 0
        )
        place.set(ylabel="AP50 on the target, %", ylim=(0, 100))
        place.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
        return svg(drawing, alt="precision of every class on the target by recipe")
