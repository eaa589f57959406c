"""Strips of heat maps over a training, as one PNG."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from experiments.pictures import show_image
from robustkit.data import ImageSet
from robustkit.runs import atomic_path
from robustkit.runs.report import house_style

SHOWN = ("saliency", "guided", "gradcam")


def draw_strips(
    images: ImageSet,
    names: list[str],
    maps: Mapping[int, Mapping[str, Tensor]],
    reference: int,
    epochs: int,
    file: Path,
) -> None:
    """A row for each image and kind of map, a column for each checkpoint; the reference marked."""
    from matplotlib.figure import Figure

    rows, columns = len(images) * len(SHOWN), 1 + len(maps)
    with house_style():
        drawing = Figure(figsize=(0.9 * columns, 0.95 * rows), layout="constrained")
        places: Any = drawing.subplots(rows, columns, squeeze=False)
        for place in places.ravel():
            place.set_axis_off()
        for number in range(len(images)):
            for offset, kind in enumerate(SHOWN):
                row = number * len(SHOWN) + offset
                show_image(places[row, 0], images.images[number])
                places[row, 0].set_title(f"{names[number]}: {kind}", fontsize=7)
                for column, (segment, made) in enumerate(maps.items(), start=1):
                    values = made[kind][number]
                    size = float(values.abs().max()) or 1.0
                    place = places[row, column]
                    place.imshow(values.numpy(), cmap="bwr", vmin=-size, vmax=size)
                    if row == 0:
                        mark = " ref." if segment == reference else ""
                        place.set_title(f"{segment * epochs}{mark}", fontsize=7)
        with atomic_path(file) as temporary:
            drawing.savefig(temporary, format="png", dpi=90)
