"""Colours, noise and textures that the styles are painted with; all values in [0,1]."""

from __future__ import annotations

import colorsys
import math

import numpy as np
from PIL import Image
from scipy import ndimage

from robustkit.data.shapes.scene import CLASSES, Drawn, Floats

PERIOD = 4.0  # pixels of a class's grating


def colour(
    rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]
) -> Floats:
    """A colour (3,) of any hue."""
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
    """A colour (3,) that differs from `ground` (3,) by `least` at any rate."""
    tried = [colour(rng, saturation, value) for _ in range(8)]
    apart = [float(np.linalg.norm(each - ground)) for each in tried]
    fit = [each for each, far in zip(tried, apart, strict=True) if far >= least]
    return fit[0] if fit else tried[int(np.argmax(apart))]


def clouds(rng: np.random.Generator, side: int, octaves: int = 4) -> Floats:
    """Noise (S,S) of mean 0 and standard deviation 1 whose coarse parts are strongest."""
    total = np.zeros((side, side))
    for octave in range(octaves):
        cells = min(2 ** (octave + 2), side)
        grid = Image.fromarray(rng.standard_normal((cells, cells)).astype(np.float32))
        smooth = grid.resize((side, side), Image.Resampling.BILINEAR)
        total += np.asarray(smooth, dtype=np.float64) / 2**octave
    return np.asarray((total - total.mean()) / (total.std() + 1e-9))


def slope(rng: np.random.Generator, side: int) -> Floats:
    """A plane (S,S) from -1 to 1 that falls in any direction: light from one side."""
    angle = rng.uniform(0, 2 * math.pi)
    rows, columns = np.mgrid[0:side, 0:side] / (side - 1) * 2 - 1
    return np.asarray((math.cos(angle) * columns + math.sin(angle) * rows) / math.sqrt(2))


def grating(rng: np.random.Generator, label: int, side: int) -> Floats:
    """The texture (S,S) in [-1,1] that tells class `label`: stripes of its own direction.

    Their phase is drawn, so that no pixel tells anything.
    """
    angle = math.pi * label / len(CLASSES)
    rows, columns = np.mgrid[0:side, 0:side]
    along = math.cos(angle) * columns + math.sin(angle) * rows
    return np.asarray(np.sin(2 * math.pi * along / PERIOD + rng.uniform(0, 2 * math.pi)))


def blend(picture: Floats, layer: Floats, mask: Floats) -> Floats:
    """`layer` (S,S,3) or (3,) over `picture` (S,S,3) where `mask` (S,S) is."""
    return picture + mask[..., None] * (layer - picture)


def blurred(values: Floats, sigma: float) -> Floats:
    """A Gaussian blur over the first two axes."""
    spread = (sigma, sigma, *(0.0,) * (values.ndim - 2))
    return np.asarray(ndimage.gaussian_filter(values, spread))


def outline(mask: Floats, width: float) -> Floats:
    """The rim (S,S) of a mask, about `width` pixels wide."""
    inner = ndimage.binary_erosion(mask > 0.5, iterations=max(1, round(width / 2)))
    outer = ndimage.binary_dilation(mask > 0.5, iterations=max(1, round(width / 2)))
    return blurred((outer & ~inner).astype(float), 0.5)


def class_texture(rng: np.random.Generator, drawn: list[Drawn], side: int) -> Floats:
    """Every shape's grating within what can be seen of it, (S,S) in [-1,1]."""
    total = np.zeros((side, side))
    for each in drawn:
        total = (1 - each.mask) * total + each.mask * grating(rng, each.shape.label, side)
    return total
