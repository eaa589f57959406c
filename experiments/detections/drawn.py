"""Detections drawn over their images."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from adaptation.detectors import Found
from robustkit.data.detection import DetectionSet, Truth
from robustkit.runs.report import PALETTE, house_style, label

SURE = 0.4  # detections below are not drawn


def detections_figure(
    images: DetectionSet,
    found: Mapping[str, Sequence[Found]],
    rows: Sequence[int],
    sure: float = SURE,
) -> bytes:
    """A PNG: images in rows, the truth and every recipe's detections in columns."""
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
            place.set_title(label(name), fontsize=8)
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
    for number, (box, kind) in enumerate(
        zip(what.boxes.tolist(), what.labels.tolist(), strict=True)
    ):
        if scores is not None and scores[number] < sure:
            continue
        x1, y1, x2, y2 = box
        colour = PALETTE[kind % len(PALETTE)]
        place.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color=colour, lw=1)
        told = classes[kind] if scores is None else f"{classes[kind]} {scores[number]:.2f}"
        place.text(x1, y1 - 1, label(told), fontsize=5, color=colour)
