"""Images in rows, nets in columns: input gradients in their colours, and maps."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from experiments.pictures import show_image
from experiments.reproduce.features.nets import ROLES
from robustkit.data import ImageSet
from robustkit.runs.report import house_style

SPREAD = 3.0  # standard deviations from grey to the end of the scale


def draw_nets(
    images: ImageSet,
    gradients: Mapping[str, Tensor],
    maps: Mapping[str, Mapping[str, Tensor]],
) -> Iterator[tuple[str, bytes]]:
    """Names and PNGs: "gradients", and one for each kind of map."""
    yield "gradients", _drawn(images, {role: _colours(each) for role, each in gradients.items()})
    for kind in next(iter(maps.values())):
        yield kind, _drawn(images, {role: _signed(each[kind]) for role, each in maps.items()})


def _colours(gradients: Tensor) -> list[tuple[np.ndarray, dict[str, Any]]]:
    """Each gradient around grey, cut at three standard deviations, as Tsipras et al. 2019."""
    size = gradients.flatten(1).std(dim=1).view(-1, 1, 1, 1).clamp_min(1e-30)
    laid = (0.5 + gradients / size / (2 * SPREAD)).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    grey = {"cmap": "gray", "vmin": 0, "vmax": 1}
    return [(each[..., 0] if each.shape[2] == 1 else each, grey) for each in laid]


def _signed(maps: Tensor) -> list[tuple[np.ndarray, dict[str, Any]]]:
    tiles = []
    for each in maps:
        size = float(each.abs().max()) or 1.0
        tiles.append((each.numpy(), {"cmap": "bwr", "vmin": -size, "vmax": size}))
    return tiles


def _drawn(images: ImageSet, tiles: Mapping[str, list[tuple[np.ndarray, dict[str, Any]]]]) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, columns = len(images), 1 + len(tiles)
    with house_style():
        drawing = Figure(figsize=(1.15 * columns, 1.15 * rows + 0.4), layout="constrained")
        places: Any = drawing.subplots(rows, columns, squeeze=False)
        for place in places.ravel():
            place.set_axis_off()
        for row in range(rows):
            show_image(places[row, 0], images.images[row])
            places[row, 0].set_title(images.classes[int(images.labels[row])], fontsize=7)
            for column, (role, drawn) in enumerate(tiles.items(), start=1):
                values, how = drawn[row]
                places[row, column].imshow(values, **how)
                if row == 0:
                    places[row, column].set_title(f"{role}\n{ROLES[role].says}", fontsize=6)
        packed = io.BytesIO()
        FigureCanvasAgg(drawing).print_png(packed)  # type: ignore[no-untyped-call]
    return packed.getvalue()
