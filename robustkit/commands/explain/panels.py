"""Pictures of maps over their image, positive red and negative blue, as PNG files.

A panel has all maps of one image; a strip has one method's maps of it over a training's epochs.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from robustkit import explain
from robustkit.commands.explain.result import CheckpointsSummary, ImagePrediction
from robustkit.commands.explain.subject import Subject
from robustkit.explain.methods import Maps
from robustkit.report import chart, label
from robustkit.report.pictures import show_image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_EPOCHS = 14  # maps in a strip; of more epochs an even choice is drawn

_CIRCLED = "①②③④⑤⑥⑦⑧⑨⑩"
_PANEL_COLUMNS = 6
_PANEL_SIDE = 1.9  # inches of a tile
_STRIP_COLUMNS = 7  # maps in a row
_STRIP_SIDE = 1.15  # inches of a tile: eight of them are as wide as a report
_LONGEST_LAYER = 16  # letters over a tile of a panel
_LONGEST_CLASS = 12  # letters over a tile of a strip

Tile = tuple[str, np.ndarray]  # title and map (H,W)


def draw_panels(
    subject: Subject,
    targets: Tensor,
    maps: Mapping[str, Maps],
    others: Mapping[str, Maps] | None,
) -> Iterator[tuple[str, bytes]]:
    """Yield the file name and the PNG of each image's panel."""
    for row in range(len(subject.images)):
        tiles = _layer_tiles(row, maps, subject, "")
        if others is not None:
            tiles += _layer_tiles(row, others, subject, f"\n{subject.other_name}")
        yield panel_name(row), _draw_panel(subject, targets, row, tiles)


def panel_name(row: int) -> str:
    """Return the file name of an image's panel."""
    return f"panel_{row:03}.png"


def draw_strips(
    subject: Subject,
    summary: CheckpointsSummary,
    maps: Mapping[str, Mapping[int, Tensor]],
) -> Iterator[tuple[str, bytes]]:
    """Yield the file name and the PNG of each image's and method's strip.

    `maps` are (N,H,W) by method and epoch.
    """
    shown = spread(sorted(next(iter(maps.values()))), MOST_EPOCHS)
    predictions = {result.epoch: result.images for result in summary.epochs}
    for row, image in enumerate(summary.images):
        titles = {epoch: _epoch_title(epoch, predictions[epoch][row]) for epoch in shown}
        for name, by_epoch in maps.items():
            tiles = [(titles[epoch], by_epoch[epoch][row].numpy()) for epoch in shown]
            heading = f"{label(image.index)}: {_class_name(image.target)}\n{name}"
            yield strip_name(row, name), _draw_strip(subject, row, heading, tiles)


def strip_name(row: int, method: str) -> str:
    """Return the file name of an image's strip."""
    return f"strip_{row:03}_{method}.png"


def spread(epochs: Sequence[Any], most: int) -> list[Any]:
    """Return at most `most` of the entries, evenly spread, the first and the last among them."""
    if len(epochs) <= most:
        return list(epochs)
    places = {round(place * (len(epochs) - 1) / (most - 1)) for place in range(most)}
    return [epochs[place] for place in sorted(places)]


def _layer_tiles(row: int, maps: Mapping[str, Maps], subject: Subject, suffix: str) -> list[Tile]:
    height, width = subject.images.shape[2:]
    tiles = []
    for name, method in maps.items():
        if not method.layers:
            tiles.append((f"{name}{suffix}", method.pixels[row].cpu().numpy()))
        for place, (layer, values) in enumerate(method.layers.items()):
            large = explain.enlarged(values[row : row + 1], (height, width))[0]
            mark = _CIRCLED[place] if place < len(_CIRCLED) else f"({place + 1})"
            short = _end_of(layer, _LONGEST_LAYER)
            tiles.append((f"{name} {mark} {short}{suffix}", large.cpu().numpy()))
    return tiles


def _draw_panel(subject: Subject, targets: Tensor, row: int, tiles: Sequence[Tile]) -> bytes:
    columns = min(_PANEL_COLUMNS, len(tiles) + 1)
    rows = -(-(len(tiles) + 1) // columns)
    with chart(_PANEL_SIDE * columns, (_PANEL_SIDE + 0.4) * rows) as drawing:
        axes = list(np.atleast_1d(drawing.subplots(rows, columns)).ravel())
        target = subject.classes[int(targets[row])]
        title = _end_of(f"{subject.names[row]}: {target}", 26)
        _draw_image_and_maps(axes, axes[1:], subject.levels[row], title, tiles)
        return _png(drawing)


def _draw_strip(subject: Subject, row: int, heading: str, tiles: Sequence[Tile]) -> bytes:
    columns = min(_STRIP_COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    with chart(_STRIP_SIDE * (1 + columns), (_STRIP_SIDE + 0.4) * rows) as drawing:
        axes: Any = drawing.subplots(rows, 1 + columns, squeeze=False)
        maps = list(axes[:, 1:].ravel())
        _draw_image_and_maps(list(axes.ravel()), maps, subject.levels[row], heading, tiles)
        return _png(drawing)


def _draw_image_and_maps(
    axes: Sequence[Any],
    map_axes: Sequence[Any],
    image: Tensor,
    heading: str,
    tiles: Sequence[Tile],
) -> None:
    """Draw the image (C,H,W), uint8, on the first of the axes, and its maps on the `map_axes`."""
    for axis in axes:
        axis.set_axis_off()
    show_image(axes[0], image)
    axes[0].set_title(heading, fontsize=8)
    grey = image.double().mean(dim=0).numpy()
    for axis, (title, values) in zip(map_axes, tiles, strict=False):
        _overlay(axis, grey, values)
        axis.set_title(title, fontsize=8)


def _overlay(axis: Any, grey: np.ndarray, values: np.ndarray) -> None:
    """Draw a map (H,W) over the faded image (H,W), grey levels 0 to 255.

    The colours are symmetric and go up to the map's own largest magnitude, so white is zero.
    """
    axis.imshow(255 - (255 - grey) * 0.35, cmap="gray", vmin=0, vmax=255)
    size = float(np.abs(values).max()) or 1.0
    strength = np.abs(values) / size
    axis.imshow(values / size, cmap="bwr", vmin=-1, vmax=1, alpha=0.85 * strength**0.6)


def _epoch_title(epoch: int, prediction: ImagePrediction) -> str:
    other = ""
    if prediction.predicted != prediction.target:
        other = f", says {_class_name(prediction.predicted)}"
    return f"epoch {epoch}\n{100 * prediction.probability:.0f} %{other}"


def _end_of(layer: str, longest: int) -> str:
    """Return the end of a layer's name, as long as a tile is wide; `maps.npz` has it whole."""
    name = layer.removeprefix("net.")
    return name if len(name) <= longest else f"…{name[1 - longest :]}"


def _class_name(name: str) -> str:
    return label(name if len(name) <= _LONGEST_CLASS else name[: _LONGEST_CLASS - 1] + "…")


def _png(drawing: Figure) -> bytes:
    """Return a matplotlib figure as the bytes of a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    packed = io.BytesIO()
    FigureCanvasAgg(drawing).print_png(packed)  # type: ignore[no-untyped-call]
    return packed.getvalue()
