"""Filters, the maps of their paths, and where a covered region flips the answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from robustkit.data import ImageSet, Splits
from robustkit.models import Classifier
from robustkit.runs import atomic_path
from robustkit.runs.report import house_style

RED, BLUE = "#c0392b", "#2e6fb7"


def draw_paths(
    model: Classifier, images: ImageSet, winners: list[list[list[int]]], file: Path
) -> None:
    """A row for each class: an image, conv1's filters, and the map of every path (i,j) of it.

    Framed red and blue: the two paths that win most often for the class.
    """
    from matplotlib.figure import Figure

    first, second = (_conv(model, name) for name in ("net.stage1.0", "net.stage2.0"))
    count, other = first.weight.shape[0], second.weight.shape[0]
    with house_style():
        rows, columns = len(winners), 1 + count + count * other
        drawing = Figure(figsize=(0.8 * columns, 0.85 * rows), layout="constrained")
        places: Any = drawing.subplots(rows, columns)
        for number in range(rows):
            chosen = int(torch.nonzero(images.labels == number)[0])
            a1, maps = _maps(model, images, chosen)
            order = np.argsort(-np.array(winners[number]).ravel(), kind="stable")
            _show(places[number, 0], images.images[chosen, 0].float())
            for i in range(count):
                _show(places[number, 1 + i], a1[i])
                for j in range(other):
                    place = places[number, 1 + count + i * other + j]
                    _show(place, maps[i, j], signed=True)
                    for colour, best in ((RED, order[0]), (BLUE, order[1])):
                        if best == i * other + j:
                            _frame(place, colour)
                    if number == 0:
                        place.set_title(f"{i + 1}→{j + 1}", fontsize=8)
            if number == 0:
                for i in range(count):
                    places[0, 1 + i].set_title(f"filter {i + 1}", fontsize=8)
        _save(drawing, file)


def draw_regions(rates: Tensor, splits: Splits, file: Path) -> None:
    """For each class (K,rows,columns) how often covering a region flips the answer."""
    from matplotlib.figure import Figure

    with house_style():
        drawing = Figure(figsize=(9, 3.9), layout="constrained")
        top = float(rates.max()) or 1.0
        places = drawing.subplots(2, -(-len(rates) // 2)).ravel()
        for number, place in enumerate(places):
            place.set_axis_off()
            if number < len(rates):
                shown = place.imshow(rates[number].numpy(), cmap="magma", vmin=0, vmax=top)
                place.set_title(splits.test.classes[number], fontsize=9)
        drawing.colorbar(shown, ax=list(places), label="share of images flipped", shrink=0.8)
        _save(drawing, file)


def _maps(model: Classifier, images: ImageSet, chosen: int) -> tuple[Tensor, Tensor]:
    """What the second convolution sees (I,h,w), and what each path adds to it (I,J,h',w')."""
    second = _conv(model, "net.stage2.0")
    with torch.no_grad():
        x = model.preprocess(images.floats(torch.tensor([chosen])))
        a1 = model.net.get_submodule("stage1")(x)
        parts = [
            F.conv2d(a1[:, i : i + 1], second.weight[:, i : i + 1])[0] for i in range(a1.shape[1])
        ]
    return a1[0], torch.stack(parts)


def _conv(model: Classifier, name: str) -> torch.nn.Conv2d:
    module = model.get_submodule(name)
    assert isinstance(module, torch.nn.Conv2d)
    return module


def _show(place: Any, values: Tensor, *, signed: bool = False) -> None:
    size = float(values.abs().max()) or 1.0
    if signed:
        place.imshow(values.numpy(), cmap="bwr", vmin=-size, vmax=size)
    else:
        place.imshow(values.numpy(), cmap="gray")
    place.set_xticks([])
    place.set_yticks([])
    for side in place.spines.values():
        side.set_visible(False)


def _frame(place: Any, colour: str) -> None:
    for side in place.spines.values():
        side.set_visible(True)
        side.set_color(colour)
        side.set_linewidth(2.5)


def _save(drawing: Any, file: Path) -> None:
    with atomic_path(file) as temporary:
        drawing.savefig(temporary, format="png", dpi=90)
