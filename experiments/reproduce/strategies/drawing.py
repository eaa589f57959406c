"""Hypervolume over cost, one line for each search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adaptation.evaluation import over_seeds
from experiments.reproduce.strategies.result import Seeds
from robustkit.runs.report import PALETTE, house_style, label, svg

LINES = ("-", "--", ":")


def courses(searches: Mapping[str, Seeds]) -> str:
    """Means over seeds as lines, the seeds as dots beside them."""
    from matplotlib.figure import Figure

    with house_style():
        drawing = Figure(figsize=(7.5, 4.2), layout="constrained")
        place: Any = drawing.subplots()
        count = len(searches)
        for number, (search, of) in enumerate(searches.items()):
            colour = PALETTE[number % len(PALETTE)]
            moments = list(next(iter(of.values()))["hypervolume"])
            values = [[each["hypervolume"][moment] for each in of.values()] for moment in moments]
            aside = 1.2 * (number - (count - 1) / 2)
            at = [100 * float(moment) + aside for moment in moments]
            line = LINES[number // len(PALETTE) % len(LINES)]
            style = {"color": colour, "linestyle": line, "lw": 1.6, "label": label(search)}
            place.plot(at, [over_seeds(each)["mean"] for each in values], **style)
            for where, each in zip(at, values, strict=True):
                place.plot([where] * len(each), each, "o", color=colour, markersize=3, alpha=0.6)
        # Searches stand side by side at each moment, so that their seeds can be told apart.
        place.set_xticks([100 * float(moment) for moment in moments])
        place.set(xlabel="share of the epochs spent (%)", ylabel="hypervolume, points")
        place.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
        return str(svg(drawing, alt="Hypervolume of every search over what it has spent"))
