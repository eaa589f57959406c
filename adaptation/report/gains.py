"""A chart of recipes' gains over the distance of the target, a point for each seed and target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from robustkit.report import PALETTE, chart, svg

MARKS = "osD^v*"  # one for each target
Gain = Mapping[str, Sequence[tuple[str, float, float]]]


def gains_figure(points: Gain, threshold: float) -> str:
    """Return an SVG of gains against distances, the threshold dotted.

    `points` are, by recipe, the target, its distance in units of the distance between halves of the
    source, and the gain in AP50.

    Distances on a logarithmic axis, the threshold dotted.
    """
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    with chart(7.0, 3.8) as drawing:
        axis: Any = drawing.subplots()
        targets = list(dict.fromkeys(target for gains in points.values() for target, _, _ in gains))
        for colour, (recipe, gains) in zip(PALETTE, points.items(), strict=False):
            axis.plot([], [], "o", color=colour, markersize=4, label=recipe)
            for target, distance, gain in gains:
                mark = MARKS[targets.index(target) % len(MARKS)]
                axis.plot(distance, 100 * gain, mark, color=colour, markersize=5, alpha=0.8)
        for target, mark in zip(targets, MARKS, strict=False):
            axis.plot([], [], mark, color="0.4", markersize=5, label=target)
        axis.axhline(0, color="0.7", lw=0.8)
        axis.axvline(threshold, color="0.6", linestyle=":", lw=1)
        axis.set_xscale("log")
        axis.set_xticks([1, 2, 3, 5, 7, 10, 15, 20, 30])
        axis.xaxis.set_major_formatter(ScalarFormatter())
        axis.xaxis.set_minor_formatter(NullFormatter())
        distances = [distance for gains in points.values() for _, distance, _ in gains]
        axis.set_xlim(min(*distances, threshold) / 1.2, max(*distances, threshold) * 1.2)
        axis.set(xlabel="Fréchet distance, in that of halves of the source (dotted: threshold)")
        axis.set_ylabel("gain in AP50, points")
        axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
        return str(svg(drawing, alt="gain of each recipe against the distance of the target"))
