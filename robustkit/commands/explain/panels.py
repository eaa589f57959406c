"""A picture for each image: the image, and every map over it, positive red and negative blue."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from robustkit import explain
from robustkit.commands.explain.subject import Subject
from robustkit.explain.methods import Maps
from robustkit.report import chart
from robustkit.report.pictures import show_image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CIRCLED = "①②③④⑤⑥⑦⑧⑨⑩"
ACROSS = 6
SIDE = 1.9  # inches of a tile


def draw_panels(
    subject: Subject,
    targets: Tensor,
    maps: Mapping[str, Maps],
    others: Mapping[str, Maps] | None,
) -> Iterator[tuple[str, bytes]]:
    """File names and PNGs, one for each image."""
    for row in range(len(subject.images)):
        tiles = _tiles(row, maps, subject, "")
        if others is not None:
            tiles += _tiles(row, others, subject, f"\n{subject.other_name}")
        yield panel_name(row), _drawn(subject, targets, row, tiles)


def panel_name(row: int) -> str:
    """The file of the picture of an image."""
    return f"panel_{row:03}.png"


def _tiles(
    row: int, maps: Mapping[str, Maps], subject: Subject, whose: str
) -> list[tuple[str, np.ndarray]]:
    height, width = subject.images.shape[2:]
    tiles = []
    for name, each in maps.items():
        if not each.layers:
            tiles.append((f"{name}{whose}", each.pixels[row].cpu().numpy()))
        for place, (layer, values) in enumerate(each.layers.items()):
            large = explain.enlarged(values[row : row + 1], (height, width))[0]
            mark = CIRCLED[place] if place < len(CIRCLED) else f"({place + 1})"
            tiles.append((f"{name} {mark} {_short(layer)}{whose}", large.cpu().numpy()))
    return tiles


def _short(layer: str, most: int = 16) -> str:
    """The end of a layer's name, as long as a tile is wide; `maps.npz` has the whole."""
    own = layer.removeprefix("net.")
    return own if len(own) <= most else f"…{own[1 - most :]}"


def _drawn(
    subject: Subject, targets: Tensor, row: int, tiles: list[tuple[str, np.ndarray]]
) -> bytes:

    grey = subject.levels[row].double().mean(dim=0).numpy()
    count = len(tiles) + 1
    across = min(ACROSS, count)
    down = -(-count // across)
    with chart(SIDE * across, (SIDE + 0.4) * down) as drawing:
        places = np.atleast_1d(drawing.subplots(down, across)).ravel()
        for place in places:
            place.set_axis_off()
        show_image(places[0], subject.levels[row])
        target = subject.classes[int(targets[row])]
        places[0].set_title(_short(f"{subject.names[row]}: {target}", 26), fontsize=8)
        for place, (title, values) in zip(places[1:], tiles, strict=False):
            overlay(place, grey, values)
            place.set_title(title, fontsize=8)
        return png(drawing)


def overlay(place: Any, grey: np.ndarray, values: np.ndarray) -> None:
    """Draw a map (H,W) over the faded image (H,W), grey levels 0 to 255.

    The colours are symmetric and go up to the map's own largest magnitude, so white is nothing.
    """
    place.imshow(255 - (255 - grey) * 0.35, cmap="gray", vmin=0, vmax=255)
    size = float(np.abs(values).max()) or 1.0
    strength = np.abs(values) / size
    place.imshow(values / size, cmap="bwr", vmin=-1, vmax=1, alpha=0.85 * strength**0.6)


def png(drawing: Figure) -> bytes:
    """A matplotlib figure as a PNG file's bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    packed = io.BytesIO()
    FigureCanvasAgg(drawing).print_png(packed)  # type: ignore[no-untyped-call]
    return packed.getvalue()
