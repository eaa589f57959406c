"""Rendered detection sets: scenes of six shapes, painted in five styles, written in VOC layout.

Backgrounds are drawn anew for every image in every style, so the shape is the only cue that all
styles share; the faint texture of a class is a second one, of which each style keeps a part. Sets
are made once for each request and kept in the cache folder.
"""

from __future__ import annotations

import colorsys
import hashlib
import json
import math
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from robustkit.compute.seeds import derive_seed
from robustkit.data.arrays import cache_folder
from robustkit.data.detection.sets import ANNOTATIONS, IMAGES, LISTED, SPLITS
from robustkit.errors import DataError
from robustkit.registry import Registry

Floats = NDArray[np.float64]

VERSION = 1  # of what the renderer draws: another one, another folder
PARTS = ("train", "test")

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

PERIOD = 4.0  # pixels of a class's grating
# Of photographs: how far colours of shapes are from what is beneath, and how dark shadows are.
CONTRAST, SHADOW = (0.08, 0.35), 0.2


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
        """Whether too little of it is visible for a detector to be expected to find it."""
        return self.seen < SEEN


Paint = Callable[[np.random.Generator, list[Drawn], int], Floats]


@dataclass(frozen=True)
class Style:
    """`paint(rng, drawn, side)` returns a picture (S,S,3), to which noise and texture are added.

    `kept` is the share of the classes' texture that remains; `noise` the camera's deviation.
    """

    paint: Paint
    kept: float
    noise: float


STYLES: Registry[Style] = Registry("style of shapes", DataError)


@dataclass(frozen=True, kw_only=True)
class ShapesConfig:
    """A rendered set: `count` images each for training and testing, `side` pixels square.

    `texture` is the amplitude, in [0,1] units, of the faint stripes that tell each class in
    `photo`; other styles keep all, some or none of them. 0: the shape is all there is.
    """

    style: str
    count: int = 1000
    side: int = 128
    texture: float = 8 / 255
    seed: int = 0

    def __post_init__(self) -> None:
        STYLES.find(self.style)
        if not 1 <= self.count <= 100_000:
            raise DataError(f"shapes: 1 to 100,000 images, not {self.count}")
        if not 64 <= self.side <= 512:
            raise DataError(f"shapes: images of 64 to 512 pixels, not {self.side}")
        if not 0 <= self.texture <= 0.25:
            raise DataError(f"shapes: a texture of 0 to 0.25, in units of images: {self.texture:g}")
        if not 0 <= self.seed < 2**63:
            raise DataError(f"shapes: a seed of 0 or more, not {self.seed}")


def rendered(config: ShapesConfig) -> Path:
    """Return the folder in VOC layout, splits `train` and `test`; drawn if it is not there yet."""
    identity = json.dumps([VERSION, asdict(config)], sort_keys=True)
    name = f"shapes-{config.style}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    folder = cache_folder() / name
    if not folder.is_dir():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(
                f"{folder.parent}: no cache folder can be made there ({error.strerror}); "
                "ROBUSTKIT_CACHE names another"
            ) from None
        # Whole or not at all, also where two processes draw the same set.
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".shapes-") as temporary:
            unfinished = Path(temporary) / name
            write_shapes(config, unfinished)
            try:
                unfinished.rename(folder)
            except OSError:
                if not folder.is_dir():
                    raise
                shutil.rmtree(unfinished)
    return folder


def write_shapes(config: ShapesConfig, folder: Path) -> None:
    """Draw the set into `folder`, which is made."""
    for part in (IMAGES, ANNOTATIONS, SPLITS):
        (folder / part).mkdir(parents=True)
    (folder / LISTED).write_text("\n".join(CLASSES) + "\n", "utf-8")
    for part in PARTS:
        names = [f"{part}_{number:06}" for number in range(config.count)]
        for number, name in enumerate(names):
            drawn, pixels = draw(config, part, number)
            Image.fromarray(pixels).save(folder / IMAGES / f"{name}.png", compress_level=1)
            (folder / ANNOTATIONS / f"{name}.xml").write_text(
                _annotation(name, drawn, config.side), "utf-8"
            )
        (folder / SPLITS / f"{part}.txt").write_text("\n".join(names) + "\n", "utf-8")


def draw(config: ShapesConfig, part: str, number: int) -> tuple[list[Drawn], np.ndarray]:
    """Return one image: its shapes and its pixels uint8 (S,S,3).

    Scenes of two styles, splits or seeds have nothing to do with each other; those of two textures
    are the same but for the texture.
    """
    seed = derive_seed("shapes", config.style, part, config.seed, config.side, number)
    rng = np.random.default_rng(seed)
    drawn = compose(rng, config.side)
    return drawn, render(config.style, rng, drawn, config.side, config.texture)


def _annotation(name: str, drawn: list[Drawn], side: int) -> str:
    objects = "".join(
        f"  <object>\n    <name>{CLASSES[layer.shape.label]}</name>\n    <pose>Unspecified</pose>\n"
        f"    <truncated>{int(layer.truncated)}</truncated>\n"
        f"    <difficult>{int(layer.difficult)}</difficult>\n    <bndbox>\n"
        f"      <xmin>{layer.box[0] + 1}</xmin>\n      <ymin>{layer.box[1] + 1}</ymin>\n"
        f"      <xmax>{layer.box[2] + 1}</xmax>\n      <ymax>{layer.box[3] + 1}</ymax>\n"
        "    </bndbox>\n  </object>\n"
        for layer in drawn
    )
    return (
        f"<annotation>\n  <filename>{escape(name)}.png</filename>\n  <size>\n"
        f"    <width>{side}</width>\n    <height>{side}</height>\n    <depth>3</depth>\n"
        f"  </size>\n  <segmented>0</segmented>\n{objects}</annotation>\n"
    )


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
