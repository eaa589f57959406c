"""Curves of an explanation's report, as SVG."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from experiments.explain.result import Score
from experiments.explain.scores import CONTROLS
from robustkit.runs.report import PALETTE, house_style, label, svg

LINES = ("-", "--", ":")


def curves_figure(scores: Mapping[str, Score]) -> Markup:
    """Mean probability over the share of pixels deleted, and inserted."""
    from matplotlib.figure import Figure

    with house_style():
        drawing = Figure(figsize=(7.6, 3.2), layout="constrained")
        curves = {
            "deletion": {name: each["deletion"]["curve"] for name, each in scores.items()},
            "insertion": {name: each["insertion"]["curve"] for name, each in scores.items()},
        }
        for place, (kind, found) in zip(drawing.subplots(1, 2), curves.items(), strict=True):
            for number, (name, curve) in enumerate(found.items()):
                share = [100 * step / (len(curve) - 1) for step in range(len(curve))]
                control = name in CONTROLS
                place.plot(
                    share,
                    curve,
                    label=label(name),
                    color="0.6" if control else PALETTE[number % len(PALETTE)],
                    linestyle=LINES[1 + CONTROLS.index(name)]
                    if control
                    else LINES[number // len(PALETTE) % len(LINES)],
                )
            place.set(xlabel=f"pixels, % ({kind})", ylim=(0, 1))
        drawing.axes[0].set_ylabel("probability of the class")
        drawing.axes[1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
        return svg(drawing, alt="deletion and insertion curves")


def sanity_figure(scores: Mapping[str, Score]) -> Markup:
    """Signed rank correlation over the layers drawn anew, from the output back."""
    from matplotlib.figure import Figure

    with house_style():
        drawing = Figure(figsize=(7.6, 3.2), layout="constrained")
        place = drawing.subplots()
        methods = [name for name in scores if name not in CONTROLS]
        layers: list[str] = []
        for number, name in enumerate(methods):
            found = scores[name]["sanity"]["cascading"]
            layers = list(found)
            means = [each["signed"]["mean"] for each in found.values()]
            values = [float("nan") if mean is None else mean for mean in means]
            colour = PALETTE[number % len(PALETTE)]
            line = LINES[number // len(PALETTE) % len(LINES)]
            places = range(len(layers))
            place.plot(
                places, values, line, marker="o", markersize=3, label=label(name), color=colour
            )
        place.axhline(0, color="0.8", linewidth=0.8)
        place.set_xticks(
            range(len(layers)), map(label, layers), rotation=60, ha="right", fontsize=7
        )
        place.set(ylabel="Spearman, signed")
        place.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
        return svg(drawing, alt="likeness of maps under randomisation")
