"""What a recipe gains against the distance of the target: a point for each seed and target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from robustkit.runs.report import PALETTE, house_style, svg

Gain = Mapping[str, Sequence[tuple[str, float, float]]]


def gains_figure(points: Gain, threshold: float) -> str:
    """`points` are, by recipe, target, distance in that of halves of the source, and gain in AP50.

    Distances on a logarithmic axis, the threshold dotted.
    """
    from matplotlib.figure import Figure

    with house_style():
        drawing = Figure(figsize=(7.0, 3.6), layout="constrained")
        place: Any = drawing.subplots()
        for colour, (recipe, found) in zip(PALETTE, points.items(), strict=False):
            distances = [distance for _, distance, _ in found]
            gains = [100 * gain for _, _, gain in found]
            place.plot(distances, gains, "o", color=colour, markersize=4, label=recipe)
        for target, distance, _ in next(iter(points.values()), ()):
            place.annotate(
                target, (distance, 0), xytext=(0, -8), textcoords="offset points", fontsize=6,
                ha="center", va="top", color="0.45",
            )  # fmt: skip
        place.axhline(0, color="0.7", lw=0.8)
        place.axvline(threshold, color="0.6", linestyle=":", lw=1)
        place.set_xscale("log")
        place.set(xlabel="Fréchet distance, in that of halves of the source (dotted: threshold)")
        place.set_ylabel("gain in AP50, points")
        place.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
        return str(svg(drawing, alt="gain of each recipe against the distance of the target"))
