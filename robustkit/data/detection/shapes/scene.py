"""What is in a rendered picture: shapes of six classes, where they are, and what can be seen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Floats = NDArray[np.float64]

CLASSES = ("disc", "square", "triangle", "star", "cross", "ring")
FINER = 4  # masks are drawn so many times larger, and averaged
HOLE = 0.55  # of a ring's radius
SMALL, LARGE = 0.11, 0.24  # radii, in sides of the image
MOST = 4  # shapes in an image
EMPTY = 0.04  # of images have no shape
APART = 0.4  # centres are further apart than this part of the radii's sum
BEYOND = 0.35  # of a radius may lie outside of the image
SEEN = 0.6  # of a shape must be visible, or it is difficult
HIDDEN = 0.12  # less visible, and it is not there


@dataclass(frozen=True)
class Shape:
    """One shape: class number, centre and radius in pixels, rotation and slant."""

    label: int
    x: float
    y: float
    radius: float
    angle: float
    aspect: float


@dataclass(frozen=True, eq=False)
class Drawn:
    """A shape with its mask (S,S) in [0,1], the part of it that is visible, and its box.

    `box` are the first and the last column and row of what lies in the image, x1, y1, x2, y2,
    the last ones included, counted from 0.
    """

    shape: Shape
    mask: Floats
    seen: float
    truncated: bool
    box: tuple[int, int, int, int]

    @property
    def difficult(self) -> bool:
        """Too little of it can be seen to hold it against anyone."""
        return self.seen < SEEN


def compose(rng: np.random.Generator, side: int) -> list[Drawn]:
    """Return the shapes of an image of `side` pixels, from the farthest to the nearest."""
    count = 0 if rng.random() < EMPTY else int(rng.integers(1, MOST + 1))
    shapes: list[Shape] = []
    for _ in range(8 * count):
        if len(shapes) == count:
            break
        new = _shape(rng, side)
        if all(_apart(new, item) for item in shapes):
            shapes.append(new)
    masks = [mask_of(item, side) for item in shapes]
    drawn = []
    for number, (shape, mask) in enumerate(zip(shapes, masks, strict=True)):
        cover = np.zeros_like(mask)
        for nearer in masks[number + 1 :]:
            cover = np.maximum(cover, nearer)
        whole = area_of(shape)
        seen = float((mask * (1 - cover)).sum()) / whole
        box = _box(mask)
        if seen < HIDDEN or box is None:
            masks[number] = np.zeros_like(mask)
            continue
        truncated = float(mask.sum()) < 0.97 * whole
        drawn.append(Drawn(shape, mask, seen, truncated, box))
    return drawn


def mask_of(shape: Shape, side: int) -> Floats:
    """Return how much of each pixel the shape covers, (S,S) in [0,1]."""
    fine = Image.new("L", (side * FINER, side * FINER), 0)
    pen = ImageDraw.Draw(fine)
    pen.polygon([(FINER * x, FINER * y) for x, y in _outline(shape)], fill=255)
    if CLASSES[shape.label] == "ring":
        hole = [(FINER * x, FINER * y) for x, y in _placed(_circle(), shape, HOLE)]
        pen.polygon(hole, fill=0)
    pixels = np.asarray(fine, dtype=np.float64) / 255
    return np.asarray(pixels.reshape(side, FINER, side, FINER).mean(axis=(1, 3)))


def area_of(shape: Shape) -> float:
    """Return the pixels that the shape covers, also outside the image (the shoelace formula)."""
    area = _polygon_area(_outline(shape))
    if CLASSES[shape.label] == "ring":
        area -= _polygon_area(_placed(_circle(), shape, HOLE))
    return area


def _shape(rng: np.random.Generator, side: int) -> Shape:
    radius = side * rng.uniform(SMALL, LARGE)
    margin = (1 - BEYOND) * radius
    x, y = rng.uniform(margin, side - margin, size=2)
    return Shape(
        label=int(rng.integers(len(CLASSES))),
        x=float(x),
        y=float(y),
        radius=float(radius),
        angle=float(rng.uniform(0, 2 * math.pi)),
        aspect=float(rng.uniform(0.8, 1.25)),
    )


def _apart(a: Shape, b: Shape) -> bool:
    return math.hypot(a.x - b.x, a.y - b.y) > APART * (a.radius + b.radius)


def _outline(shape: Shape) -> list[tuple[float, float]]:
    kind = CLASSES[shape.label]
    if kind in ("disc", "ring"):
        points = _circle()
    elif kind == "square":
        points = _regular(4)
    elif kind == "triangle":
        points = _regular(3)
    elif kind == "star":
        points = [
            (0.42 * x, 0.42 * y) if number % 2 else (x, y)
            for number, (x, y) in enumerate(_regular(10))
        ]
    else:
        arm = 0.33
        points = [
            *((-arm, -1), (arm, -1), (arm, -arm), (1, -arm), (1, arm), (arm, arm)),
            *((arm, 1), (-arm, 1), (-arm, arm), (-1, arm), (-1, -arm), (-arm, -arm)),
        ]
    return _placed(points, shape, 1.0)


def _circle() -> list[tuple[float, float]]:
    return _regular(48)


def _regular(corners: int) -> list[tuple[float, float]]:
    turns = [2 * math.pi * number / corners for number in range(corners)]
    return [(math.cos(turn), math.sin(turn)) for turn in turns]


def _placed(
    points: list[tuple[float, float]], shape: Shape, scale: float
) -> list[tuple[float, float]]:
    cos, sin = math.cos(shape.angle), math.sin(shape.angle)
    wide, high = scale * shape.radius * shape.aspect**0.5, scale * shape.radius / shape.aspect**0.5
    return [
        (shape.x + cos * wide * x - sin * high * y, shape.y + sin * wide * x + cos * high * y)
        for x, y in points
    ]


def _polygon_area(points: list[tuple[float, float]]) -> float:
    following = points[1:] + points[:1]
    return abs(sum(x * v - u * y for (x, y), (u, v) in zip(points, following, strict=True))) / 2


def _box(mask: Floats) -> tuple[int, int, int, int] | None:
    rows, columns = np.nonzero(mask.max(axis=1) > 0.5)[0], np.nonzero(mask.max(axis=0) > 0.5)[0]
    if len(rows) < 2 or len(columns) < 2:
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])
