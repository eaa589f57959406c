"""How much a set of nets dominates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def hypervolume(nets: Iterable[Mapping[str, Any]], accuracy: float) -> float:
    """The area that judged nets dominate, in points of accuracy times the share not transferred.

    From the corner where accuracy is `accuracy` (in [0,1]) and all adversarials transfer. Nets
    that failed, and those no better than the corner, add nothing.
    """
    points = sorted(
        (
            (net["accuracy"] - accuracy, 1 - net["transfer"])
            for net in nets
            if net["accuracy"] is not None and net["accuracy"] > accuracy
        ),
        reverse=True,
    )
    area, reached = 0.0, 0.0
    for gained, kept in points:
        if kept > reached:
            area += gained * (kept - reached)
            reached = kept
    return 100 * area
