"""Rendered sets on disk, in VOC layout, made once for each request and kept."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image

from robustkit.compute.seeds import derive_seed
from robustkit.data.detection.sets import ANNOTATIONS, IMAGES, LISTED, SPLITS
from robustkit.data.detection.shapes.scene import CLASSES, Drawn, compose
from robustkit.data.detection.shapes.styles import STYLES, render
from robustkit.data.storage import cache_folder
from robustkit.errors import DataError

VERSION = 1  # of what the renderer draws: another one, another folder
PARTS = ("train", "test")


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
            made = Path(temporary) / name
            write_shapes(config, made)
            try:
                made.rename(folder)
            except OSError:
                if not folder.is_dir():
                    raise
                shutil.rmtree(made)
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
