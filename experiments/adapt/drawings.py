"""Figures of an adaptation's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from adaptation.detectors import Found
from robustkit.data.detection import DetectionSet, Truth
from robustkit.runs.report import PALETTE, house_style, svg

SURE = 0.4  # detections below are not drawn


def curves_figure(recipes: Mapping[str, Any]) -> Markup:
    """The loss over the steps, a line for each training."""
    from matplotlib.figure import Figure

    with house_style():
        drawing = Figure(figsize=(7.6, 3.2), layout="constrained")
        place = drawing.subplots()
        for number, (name, found) in enumerate(recipes.items()):
            for run, curve in enumerate(found["curves"]):
                if curve:
                    steps, losses = zip(*curve, strict=True)
                    colour = PALETTE[number % len(PALETTE)]
                    place.plot(steps, losses, color=colour, lw=1, label=None if run else name)
        place.set(xlabel="steps of its own", ylabel="loss")
        place.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
        return svg(drawing, alt="loss over the steps of every training")


def classes_figure(recipes: Mapping[str, Any]) -> Markup:
    """AP50 of every class on the target, a bar for each recipe, with its interval."""
    from matplotlib.figure import Figure

    names = list(next(iter(recipes.values()))["target"]["classes"])
    width = 0.8 / len(recipes)
    with house_style():
        drawing = Figure(figsize=(max(7.6, 0.5 * len(names)), 3.2), layout="constrained")
        place = drawing.subplots()
        for number, (name, found) in enumerate(recipes.items()):
            known = [found["target"]["classes"][each]["ap50_area"] for each in names]
            heights = [100 * (each["mean"] or 0) for each in known]
            across = np.arange(len(names)) + (number - (len(recipes) - 1) / 2) * width
            colour = PALETTE[number % len(PALETTE)]
            place.bar(across, heights, width, label=name, color=colour)
        place.set_xticks(range(len(names)), names, rotation=45 if len(names) > 8 else 0)
        place.set(ylabel="AP50 on the target, %", ylim=(0, 100))
        place.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
        return svg(drawing, alt="precision of every class on the target by recipe")


def detections_figure(
    images: DetectionSet,
    found: Mapping[str, Sequence[Found]],
    rows: Sequence[int],
    sure: float = SURE,
) -> bytes:
    """A PNG: images in rows, the truth and every recipe's detections in columns."""
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = 1 + len(found)
    with house_style():
        size = (1.9 * columns, 1.9 * len(rows) + 0.3)
        drawing = Figure(figsize=size, layout="constrained")
        places: Any = drawing.subplots(len(rows), columns, squeeze=False)
        for line, row in zip(places, rows, strict=True):
            pixels = images.image(row).permute(1, 2, 0).numpy()
            for place in line:
                place.imshow(pixels)
                place.set_axis_off()
            _draw(line[0], images.truths[row], None, images.classes, sure)
            for place, each in zip(line[1:], found.values(), strict=True):
                _draw(place, each[row], each[row].scores.tolist(), images.classes, sure)
        for place, name in zip(places[0], ("truth", *found), strict=True):
            place.set_title(name, fontsize=8)
        packed = io.BytesIO()
        FigureCanvasAgg(drawing).print_png(packed)  # type: ignore[no-untyped-call]
    return packed.getvalue()


def _draw(
    place: Any,
    what: Found | Truth,
    scores: list[float] | None,
    classes: Sequence[str],
    sure: float,
) -> None:
    for number, (box, label) in enumerate(
        zip(what.boxes.tolist(), what.labels.tolist(), strict=True)
    ):
        if scores is not None and scores[number] < sure:
            continue
        x1, y1, x2, y2 = box
        colour = PALETTE[label % len(PALETTE)]
        place.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color=colour, lw=1)
        told = classes[label] if scores is None else f"{classes[label]} {scores[number]:.2f}"
        place.text(x1, y1 - 1, told, fontsize=5, color=colour)
