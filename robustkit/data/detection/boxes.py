"""Boxes as files give them, checked against their image."""

from __future__ import annotations

import math

from robustkit.errors import DataError

THINNEST = 0.01  # pixels: thinner ones vanish in float32, above all when images are mirrored
SLACK = 1.0  # pixels beyond the image that are rounding, and are cut off


def checked(
    box: tuple[float, float, float, float], size: tuple[int, int], where: str
) -> tuple[float, float, float, float]:
    """The box (x1, y1, x2, y2) within an image of `size` (width, height).

    Raises `DataError`, beginning with `where`, for a box without area or one that leaves the image
    by more than a pixel.
    """
    if not all(map(math.isfinite, box)):
        raise DataError(f"{where}: box {_told(box)} is not finite")
    x1, y1, x2, y2 = box
    width, height = size
    if not (x1 < x2 and y1 < y2):
        raise DataError(f"{where}: box {_told(box)} has no area; x1 < x2 and y1 < y2")
    if min(x1, y1) < -SLACK or x2 > width + SLACK or y2 > height + SLACK:
        raise DataError(f"{where}: box {_told(box)} leaves the image of {width} x {height} pixels")
    inside = (max(x1, 0.0), max(y1, 0.0), min(x2, width), min(y2, height))
    if not (inside[0] < inside[2] and inside[1] < inside[3]):
        raise DataError(f"{where}: box {_told(box)} lies outside the image of {width} x {height}")
    if min(inside[2] - inside[0], inside[3] - inside[1]) < THINNEST:
        raise DataError(f"{where}: box {_told(box)} is less than {THINNEST:g} pixels across")
    return inside


def _told(box: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{edge:g}" for edge in box) + ")"
