"""Transfer against accuracy: the nets of every evolution, a panel for each reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.evolve.report.players import COLOURS, SHOWN
from experiments.reproduce.misaligned.claims import transfer
from experiments.reproduce.misaligned.result import Evolution
from robustkit.runs.report import house_style, label, svg


def transfer_figure(evolutions: Mapping[str, Evolution]) -> str:
    """T(R→net) with 95 % intervals over clean accuracy, R's own accuracy dotted; SVG."""
    from matplotlib.figure import Figure

    with house_style():
        drawing = Figure(figsize=(2.3 * len(evolutions) + 0.6, 2.9), layout="constrained")
        places: Any = drawing.subplots(1, len(evolutions), sharex=True, sharey=True, squeeze=False)
        for place, (name, evolution) in zip(places[0], evolutions.items(), strict=True):
            place.set_title(label(f"away from {name}"))
            place.axvline(100 * evolution["nets"]["R"]["clean_acc"], color="0.6", ls=":", lw=1)
            for player in evolution["nets"]:
                if player != "R":
                    _net(place, player, evolution)
        places[0, 0].set_ylabel("misled by R's adversarials, %")
        places[0, 0].set_ylim(bottom=0)
        drawing.supxlabel("accuracy on clean test images, % (dotted: R)", fontsize=9.5)
        handles, labels = places[0, 0].get_legend_handles_labels()
        drawing.legend(handles, labels, loc="outside right center", fontsize=8, frameon=False)
        alt = "share misled by R's adversarials against accuracy, of every net by reference"
        return str(svg(drawing, alt=alt))


def _net(place: Any, player: str, evolution: Evolution) -> None:
    rate = transfer(evolution, player)
    if rate["rate"] is None:
        return
    middle, low, high = (100 * rate[key] for key in ("rate", "low", "high"))
    place.errorbar(
        100 * evolution["nets"][player]["clean_acc"],
        middle,
        yerr=[[middle - low], [high - middle]],
        fmt="o",
        # A ring, since E0 often lies where E is.
        markersize=8 if player == "E0" else 4.5,
        markerfacecolor="none" if player == "E0" else COLOURS[player],
        elinewidth=1,
        color=COLOURS[player],
        label=SHOWN[player],
    )
