"""Five ways to paint one kind of scene, at graded distance from `photo`.

Backgrounds are drawn anew for every image in every style, so the shape is the only cue that all
styles share. `kept` is how much of the classes' texture a style keeps.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from robustkit.data.detection.shapes.scene import CLASSES, Drawn, Floats
from robustkit.errors import DataError
from robustkit.registry import Registry

PERIOD = 4.0  # pixels of a class's grating


def colour(
    rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]
) -> Floats:
    """Return a colour (3,) of any hue."""
    return np.array(
        colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value))
    )


def other_colour(
    rng: np.random.Generator,
    ground: Floats,
    saturation: tuple[float, float],
    value: tuple[float, float],
    least: float = 0.3,
) -> Floats:
    """Return a colour (3,) that differs from `ground` (3,) by `least` at any rate."""
    tried = [colour(rng, saturation, value) for _ in range(8)]
    apart = [float(np.linalg.norm(candidate - ground)) for candidate in tried]
    fit = [candidate for candidate, far in zip(tried, apart, strict=True) if far >= least]
    return fit[0] if fit else tried[int(np.argmax(apart))]


def clouds(rng: np.random.Generator, side: int, octaves: int = 4) -> Floats:
    """Return noise (S,S) of mean 0 and standard deviation 1 whose coarse parts are strongest."""
    total = np.zeros((side, side))
    for octave in range(octaves):
        cells = min(2 ** (octave + 2), side)
        grid = Image.fromarray(rng.standard_normal((cells, cells)).astype(np.float32))
        smooth = grid.resize((side, side), Image.Resampling.BILINEAR)
        total += np.asarray(smooth, dtype=np.float64) / 2**octave
    return np.asarray((total - total.mean()) / (total.std() + 1e-9))


def slope(rng: np.random.Generator, side: int) -> Floats:
    """Return a plane (S,S) from -1 to 1 that falls in any direction: light from one side."""
    angle = rng.uniform(0, 2 * math.pi)
    rows, columns = np.mgrid[0:side, 0:side] / (side - 1) * 2 - 1
    return np.asarray((math.cos(angle) * columns + math.sin(angle) * rows) / math.sqrt(2))


def grating(rng: np.random.Generator, label: int, side: int) -> Floats:
    """Return the texture (S,S) in [-1,1] that tells class `label`: stripes of its own direction.

    Their phase is drawn, so that no pixel tells anything.
    """
    angle = math.pi * label / len(CLASSES)
    rows, columns = np.mgrid[0:side, 0:side]
    along = math.cos(angle) * columns + math.sin(angle) * rows
    return np.asarray(np.sin(2 * math.pi * along / PERIOD + rng.uniform(0, 2 * math.pi)))


def blend(picture: Floats, layer: Floats, mask: Floats) -> Floats:
    """Return `layer` (S,S,3) or (3,) over `picture` (S,S,3) where `mask` (S,S) is."""
    return picture + mask[..., None] * (layer - picture)


def blurred(values: Floats, sigma: float) -> Floats:
    """Return a Gaussian blur over the first two axes."""
    spread = (sigma, sigma, *(0.0,) * (values.ndim - 2))
    return np.asarray(ndimage.gaussian_filter(values, spread))


def outline(mask: Floats, width: float) -> Floats:
    """Return the rim (S,S) of a mask, about `width` pixels wide."""
    inner = ndimage.binary_erosion(mask > 0.5, iterations=max(1, round(width / 2)))
    outer = ndimage.binary_dilation(mask > 0.5, iterations=max(1, round(width / 2)))
    return blurred((outer & ~inner).astype(float), 0.5)


def class_texture(rng: np.random.Generator, drawn: list[Drawn], side: int) -> Floats:
    """Return every shape's grating within what can be seen of it, (S,S) in [-1,1]."""
    total = np.zeros((side, side))
    for layer in drawn:
        total = (1 - layer.mask) * total + layer.mask * grating(rng, layer.shape.label, side)
    return total


# Of photographs: how far colours of shapes are from what is beneath, and how dark shadows are.
CONTRAST, SHADOW = (0.08, 0.35), 0.2
Paint = Callable[[np.random.Generator, list[Drawn], int], Floats]


@dataclass(frozen=True)
class Style:
    """`paint(rng, drawn, side)` gives a picture (S,S,3); `noise` is the camera's, its deviation."""

    paint: Paint
    kept: float
    noise: float


STYLES: Registry[Style] = Registry("style of shapes", DataError)


def render(
    style: str, rng: np.random.Generator, drawn: list[Drawn], side: int, amplitude: float
) -> np.ndarray:
    """Return the picture uint8 (S,S,3) of a scene, with class textures of this amplitude."""
    chosen = STYLES[style]
    picture = chosen.paint(rng, drawn, side)
    texture = class_texture(rng, drawn, side)
    picture = picture + amplitude * chosen.kept * texture[..., None]
    picture = picture + rng.normal(0, chosen.noise, picture.shape)
    return np.round(255 * np.clip(picture, 0, 1)).astype(np.uint8)


def _photo(rng: np.random.Generator, drawn: list[Drawn], side: int) -> Floats:
    """Paint a photograph: textured, lit, with soft shadows."""
    picture = _ground(rng, side)
    for layer in drawn:
        shadow = blurred(np.roll(layer.mask, (2, 2), axis=(0, 1)), 2.5)
        picture = picture * (1 - SHADOW * shadow[..., None])
        base = _near_colour(rng, _under(picture, layer))
        light = 0.20 * slope(rng, side) + 0.12 * clouds(rng, side, octaves=6)
        picture = blend(picture, base * (1 + light[..., None]), layer.mask)
    exposure = rng.uniform(0.8, 1.15)
    return np.asarray(exposure * blurred(picture, 0.7))


def _near_colour(rng: np.random.Generator, under: Floats) -> Floats:
    """Return a colour (3,) not far from what is beneath: things in photographs seldom stand out."""
    way = rng.standard_normal(3)
    return np.asarray(
        np.clip(under + rng.uniform(*CONTRAST) * way / np.linalg.norm(way), 0.05, 0.95)
    )


def _ground(rng: np.random.Generator, side: int) -> Floats:
    first, second = colour(rng, (0.05, 0.7), (0.2, 0.9)), colour(rng, (0.05, 0.7), (0.2, 0.9))
    mix = np.clip(0.5 + 0.35 * slope(rng, side) + 0.25 * clouds(rng, side), 0, 1)
    picture = blend(np.broadcast_to(first, (side, side, 3)).copy(), second, mix)
    for _ in range(int(rng.integers(1, 5))):  # clutter without corners
        spot = (clouds(rng, side, octaves=2) > rng.uniform(1.2, 1.9)).astype(float)
        picture = blend(picture, colour(rng, (0.1, 0.8), (0.2, 0.95)), 0.6 * blurred(spot, 1.5))
    return np.clip(picture * (1 + 0.12 * clouds(rng, side, octaves=6)[..., None]), 0, 1)


def _fog(rng: np.random.Generator, drawn: list[Drawn], side: int) -> Floats:
    """Paint a photograph through haze that thickens towards the top."""
    depth = np.linspace(1, 0.4, side)[:, None] * np.ones((1, side))
    haze = np.clip(rng.uniform(0.45, 0.7) * depth * (1 + 0.1 * clouds(rng, side)), 0, 0.8)
    picture = blurred(np.clip(_photo(rng, drawn, side), 0, 1), 0.5)
    return blend(picture, np.full(3, rng.uniform(0.7, 0.9)), haze)


def _watercolor(rng: np.random.Generator, drawn: list[Drawn], side: int) -> Floats:
    """Paint washes on grained paper, pigment gathered at the rims."""
    picture = np.full((side, side, 3), rng.uniform(0.88, 0.97))
    for _ in range(int(rng.integers(1, 4))):
        wash = blurred((clouds(rng, side, octaves=3) > rng.uniform(-0.4, 0.8)).astype(float), 1.5)
        picture = blend(picture, colour(rng, (0.1, 0.45), (0.7, 0.95)), 0.7 * wash)
    for layer in drawn:
        base = other_colour(rng, _under(picture, layer), (0.3, 0.8), (0.4, 0.9))
        edge = np.clip(blurred(layer.mask + 0.08 * clouds(rng, side, octaves=6), 0.8), 0, 1)
        picture = blend(picture, base * (1 + 0.12 * clouds(rng, side)[..., None]), 0.85 * edge)
        picture = picture * (1 - 0.3 * blurred(outline(layer.mask, 2), 0.7)[..., None])
    grain = 1 + 0.035 * rng.standard_normal((side, side, 1))
    return np.asarray(picture * grain)


def _comic(rng: np.random.Generator, drawn: list[Drawn], side: int) -> Floats:
    """Paint two tones, black outlines, halftone dots."""
    first = colour(rng, (0.2, 0.8), (0.6, 1.0))
    second = other_colour(rng, first, (0.1, 0.8), (0.5, 1.0), least=0.2)
    picture = blend(np.broadcast_to(first, (side, side, 3)).copy(), second, _halftone(rng, side))
    for layer in drawn:
        base = other_colour(rng, _under(picture, layer), (0.5, 1.0), (0.5, 1.0))
        lit = (slope(rng, side) > rng.uniform(-0.2, 0.3)).astype(float)
        tones = base * (0.72 + 0.28 * lit[..., None])
        picture = blend(picture, tones, layer.mask)
        picture = blend(picture, np.full(3, 0.04), outline(layer.mask, 3))
    return picture


def _halftone(rng: np.random.Generator, side: int) -> Floats:
    pitch = rng.uniform(4, 8)
    rows, columns = np.mgrid[0:side, 0:side] / pitch * 2 * np.pi
    dots = np.cos(rows) + np.cos(columns)
    return np.asarray(dots + 1.6 * slope(rng, side) > rng.uniform(-0.5, 1.0), dtype=float)


def _clipart(rng: np.random.Generator, drawn: list[Drawn], side: int) -> Floats:
    """Paint flat colours, thin outlines, hardly any background."""
    ground = np.ones(3) if rng.random() < 0.5 else colour(rng, (0.05, 0.5), (0.8, 1.0))
    picture = np.broadcast_to(ground, (side, side, 3)).copy()
    for _ in range(int(rng.integers(0, 4))):
        band = (np.abs(slope(rng, side) - rng.uniform(-0.6, 0.6)) < rng.uniform(0.01, 0.1)).astype(
            float
        )
        picture = blend(picture, colour(rng, (0.1, 0.9), (0.5, 1.0)), band)
    for layer in drawn:
        base = other_colour(rng, _under(picture, layer), (0.6, 1.0), (0.6, 1.0))
        picture = blend(picture, base, layer.mask)
        if rng.random() < 0.7:
            picture = blend(picture, 0.35 * base, outline(layer.mask, 2))
    return picture


def _under(picture: Floats, drawn: Drawn) -> Floats:
    """Return the mean colour (3,) beneath a shape."""
    weights = drawn.mask[..., None]
    return np.asarray((picture * weights).sum(axis=(0, 1)) / weights.sum())


STYLES.enter("photo", Style(_photo, kept=1.0, noise=0.015))
STYLES.enter("fog", Style(_fog, kept=0.5, noise=0.015))
STYLES.enter("watercolor", Style(_watercolor, kept=0.25, noise=0.005))
STYLES.enter("comic", Style(_comic, kept=0.0, noise=0.005))
STYLES.enter("clipart", Style(_clipart, kept=0.0, noise=0.0))
