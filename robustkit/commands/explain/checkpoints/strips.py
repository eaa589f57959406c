"""A picture for each image and method: the image, and its maps over the epochs in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from robustkit.commands.explain.panels import overlay, png
from robustkit.commands.explain.subject import Subject
from robustkit.report import chart, label
from robustkit.report.pictures import show_image

ACROSS = 7  # maps in a row
MOST = 14  # maps in a strip; of more epochs an even choice is drawn
SIDE = 1.15  # inches of a tile: eight of them are as wide as a report
LONGEST = 12  # letters of a class's name over a tile


def draw_strips(
    subject: Subject, summary: Mapping[str, Any], maps: Mapping[str, Mapping[int, Tensor]]
) -> Iterator[tuple[str, bytes]]:
    """File names and PNGs, one for each image and method; `maps` are (N,H,W) by epoch."""
    shown = spread(sorted(next(iter(maps.values()))), MOST)
    said = {each["epoch"]: each["images"] for each in summary["epochs"]}
    for row in range(len(subject.images)):
        titles = {epoch: _title(epoch, said[epoch][row]) for epoch in shown}
        for name, found in maps.items():
            tiles = {titles[epoch]: found[epoch][row].numpy() for epoch in shown}
            title = _heading(summary["images"][row], name)
            yield strip_name(row, name), _drawn(subject, row, title, tiles)


def strip_name(row: int, method: str) -> str:
    """The file of the strip of an image."""
    return f"strip_{row:03}_{method}.png"


def spread(epochs: Sequence[Any], most: int) -> list[Any]:
    """At most so many of an entry for each epoch, evenly spread, the first and the last too."""
    if len(epochs) <= most:
        return list(epochs)
    places = {round(place * (len(epochs) - 1) / (most - 1)) for place in range(most)}
    return [epochs[place] for place in sorted(places)]


def _heading(image: Mapping[str, Any], method: str) -> str:
    return f"{label(image['index'])}: {_short(image['target'])}\n{method}"


def _title(epoch: int, said: Mapping[str, Any]) -> str:
    other = "" if said["predicted"] == said["target"] else f", says {_short(said['predicted'])}"
    return f"epoch {epoch}\n{100 * said['probability']:.0f} %{other}"


def _short(name: str) -> str:
    return label(name if len(name) <= LONGEST else name[: LONGEST - 1] + "…")


def _drawn(subject: Subject, row: int, heading: str, tiles: Mapping[str, np.ndarray]) -> bytes:

    grey = subject.images[row].double().mean(dim=0).numpy()
    across = min(ACROSS, len(tiles))
    down = -(-len(tiles) // across)
    with chart(SIDE * (1 + across), (SIDE + 0.4) * down) as drawing:
        places: Any = drawing.subplots(down, 1 + across, squeeze=False)
        for place in places.ravel():
            place.set_axis_off()
        show_image(places[0, 0], subject.images[row])
        places[0, 0].set_title(heading, fontsize=8)
        for place, (told, values) in zip(places[:, 1:].ravel(), tiles.items(), strict=False):
            overlay(place, grey, values)
            place.set_title(told, fontsize=8)
        return png(drawing)
