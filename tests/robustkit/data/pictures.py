"""Picture files for tests, each unlike every other, and the slow way to look at them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

SIZES = ((40, 30), (30, 52), (33, 33), (61, 25))  # (width, height)


def draw_noise(
    path: Path, seed: int, size: tuple[int, int] | None = None, mode: str = "RGB"
) -> None:
    """A picture of noise, losslessly; without a `size`, each seed has its own."""
    width, height = size or SIZES[seed % len(SIZES)]
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, *channels), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def flat_folder(
    folder: Path, count: int, classes: int = 4, size: tuple[int, int] | None = None
) -> Path:
    """`count` pictures and their labels.csv: labels in turn, named after animals."""
    rows = []
    for number in range(count):
        draw_noise(folder / f"{number:03d}.png", number, size)
        rows.append((f"{number:03d}.png", number % classes, f"animal {number % classes}"))
    write_table(folder / "labels.csv", ("filename", "label", "name"), rows)
    return folder


def published(path: Path, size: int | list[int], crop: list[int], interpolation: str) -> Tensor:
    """uint8 (3,H,W) as a published pipeline of torchvision makes it of a picture file."""
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, PILToTensor, Resize

    pipeline = Compose(
        [Resize(size, InterpolationMode(interpolation)), CenterCrop(crop), PILToTensor()]
    )
    with Image.open(path) as image:
        made = pipeline(image.convert("RGB"))
    assert isinstance(made, Tensor)
    assert made.dtype == torch.uint8
    return made
