"""A transfer matrix for the eye: sources down, targets across."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from experiments.summaries import Rate
from experiments.transfer.result import Cell, Denominator
from robustkit.runs.report import PALETTE, house_style, label, svg

_DARK = 0.42  # from here on a cell is dark enough for white figures


def heatmap(matrix: Mapping[str, Mapping[str, Cell]], kind: Denominator) -> Markup:
    """The rates of one denominator as shaded cells with their figures, in percent."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    sources, targets = list(matrix), list(next(iter(matrix.values())))
    shades = LinearSegmentedColormap.from_list("transfer", ["#f3f5f8", PALETTE[0], "#152f57"])
    widest = max(len(name) for name in sources)
    size = (1.1 * len(targets) + 0.085 * widest + 1.0, 0.52 * len(sources) + 0.9)
    tips = {}
    with house_style():
        drawing = Figure(figsize=size, layout="constrained")
        axes = drawing.subplots()
        for down, source in enumerate(sources):
            for across, target in enumerate(targets):
                rate = matrix[source][target][kind]
                value, gid = rate["rate"], f"{kind}-{down}-{across}"
                own = source == target
                cell = Rectangle(
                    (across + 0.02, down + 0.03),
                    0.96,
                    0.94,
                    facecolor=shades(value) if value is not None else "#d9dce1",
                    edgecolor=PALETTE[1] if own else "none",
                    linewidth=2 if own else 0,
                )
                cell.set_gid(gid)
                axes.add_patch(cell)
                axes.text(
                    across + 0.5,
                    down + 0.5,
                    "n = 0" if value is None else f"{100 * value:.1f}",
                    ha="center",
                    va="center",
                    color="#fefefe" if value is not None and value > _DARK else "#16202e",
                )
                tips[gid] = _tip(source, target, rate)
        axes.set(xlim=(0, len(targets)), ylim=(len(sources), 0))
        axes.set_xticks([index + 0.5 for index in range(len(targets))], map(label, targets))
        axes.set_yticks([index + 0.5 for index in range(len(sources))], map(label, sources))
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_ylabel("made on")
        axes.set_xlabel("scored on")
        axes.xaxis.set_label_position("top")
        alt = f"transfer from {', '.join(sources)} to {', '.join(targets)}, {kind}, in percent"
        return svg(drawing, alt=alt, tips=tips)


def _tip(source: str, target: str, rate: Rate) -> str:
    low, high = rate["low"], rate["high"]
    if rate["rate"] is None or low is None or high is None:
        return f"{source} → {target}\nno image to count"
    return (
        f"{source} → {target}\n{100 * rate['rate']:.1f} % "
        f"[{100 * low:.1f}, {100 * high:.1f}], n = {rate['n']:,}"
    )
