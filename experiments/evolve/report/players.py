"""The nets of the comparison: how they are called, what they are, and their colours."""

from __future__ import annotations

from collections.abc import Iterable

from robustkit.runs.report import PALETTE

BLUE, ORANGE, GREEN, RED, VIOLET, GREY = PALETTE

PLAYERS = ("R", "R2", "Rp", "E", "E0", "RS")
SHOWN = {"R": "R", "R2": "R2", "Rp": "R′", "E": "E", "E0": "E0", "RS": "RS", "S": "S"}
COLOURS = {"R": GREY, "R2": VIOLET, "Rp": RED, "E": BLUE, "E0": GREEN, "RS": ORANGE, "S": GREY}
MEANINGS = {
    "R": "the reference: every penalty and most attacks here are made on it",
    "R2": "R's architecture from other seeds, no penalty",
    "Rp": "R's architecture, trained with the penalty",
    "E": "the evolved architecture, trained with the penalty",
    "E0": "the evolved architecture, no penalty",
    "RS": "the best of an equal-budget random search, with the penalty",
}
ARROWS = {
    "transfer_from_R": "R → {}",
    "transfer_from_surrogate": "S → {}",
    "transfer_from_R_flipped": "R flipped → {}",
    "transfer_to_R": "{} → R",
}
SOURCES = {
    "transfer_from_R": "from R",
    "transfer_from_surrogate": "from the surrogate",
    "transfer_from_R_flipped": "from R, gradient flipped",
    "transfer_to_R": "to R, from the net itself",
}
DENOMINATORS = ("headline", "fooling", "all")


def present(nets: Iterable[str]) -> list[str]:
    """The players among `nets`, in their usual order; R2 and R′ may have been left out."""
    return [name for name in PLAYERS if name in set(nets)]
