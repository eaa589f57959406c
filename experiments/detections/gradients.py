"""What a detection rests on: input gradients of the loss, and maps of the surest box's score."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from adaptation.detectors import Detector, Found
from experiments.detections.boxes import BoxScore
from experiments.pictures import show_image
from robustkit import explain
from robustkit.attacks import pure
from robustkit.compute import device_of, isolated_rng
from robustkit.data import to_unit
from robustkit.data.detection import DetectionSet, Truth
from robustkit.errors import ExplainError
from robustkit.runs.report import house_style, label

SPREAD = 3.0  # standard deviations from grey to the end of the scale


def input_gradient(model: Detector, image: Tensor, truth: Truth) -> Tensor:
    """∂loss/∂image (3,H,W) at what is there, on the CPU; the model is left as it was."""
    with pure(model), isolated_rng(0), torch.enable_grad():
        leaf = image.detach().to(device_of(model)).requires_grad_(True)
        (slope,) = torch.autograd.grad(model.losses([leaf], [truth]).total, leaf)
    return slope.cpu()


def box_maps(model: Detector, image: Tensor, found: Found) -> dict[str, Tensor] | None:
    """CAV at the pixels and Grad-CAM (H,W) of the surest box's class, or None.

    None where nothing is found, where the image is not of the detector's own size, and for
    detectors of which no single anchor tells a box's score.
    """
    if not len(found) or tuple(image.shape) != model.card.input_shape:
        return None
    home = image.to(device_of(model))
    try:
        score = BoxScore(model, home, found, 0).eval()
        with explain.trace(score, home[None], int(found.labels[0])) as trace:
            cams = explain.gradcam(trace)
            maps = {"cav": explain.cav(trace)["input"].map[0]}
    except ExplainError:
        return None
    if cams:
        last = list(cams.values())[-1]
        maps["gradcam"] = explain.enlarged(last, (image.shape[1], image.shape[2]))[0]
    return {name: each.cpu() for name, each in maps.items()}


def draw_explained(
    models: Mapping[str, Detector],
    images: DetectionSet,
    found: Mapping[str, Sequence[Found]],
    rows: Sequence[int],
    sure: float,
) -> bytes:
    """A PNG: images in rows; of every detector its gradient and the maps of its surest box."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    kinds = ("input gradient", "cav", "gradcam")
    columns = 1 + len(kinds) * len(models)
    with house_style():
        size = (1.7 * columns, 1.7 * len(rows) + 0.3)
        drawing = Figure(figsize=size, layout="constrained")
        places: Any = drawing.subplots(len(rows), columns, squeeze=False)
        for place in places.ravel():
            place.set_axis_off()
        for line, row in zip(places, rows, strict=True):
            pixels = images.image(row)
            show_image(line[0], pixels)
            for number, (name, model) in enumerate(models.items()):
                own = line[1 + len(kinds) * number :]
                gradient = input_gradient(model, to_unit(pixels), images.truths[row])
                spread = float(gradient.std()) or 1.0
                laid = (0.5 + gradient / spread / (2 * SPREAD)).clamp(0, 1)
                own[0].imshow(laid.permute(1, 2, 0).numpy())
                each = found[name][row]
                maps = box_maps(model, to_unit(pixels), each) or {}
                for place, kind in zip(own[1:], kinds[1:], strict=False):
                    if kind in maps and float(each.scores[0]) >= sure:
                        largest = float(maps[kind].abs().max()) or 1.0
                        shown = maps[kind].numpy()
                        place.imshow(shown, cmap="bwr", vmin=-largest, vmax=largest)
                        told = f"{images.classes[int(each.labels[0])]} {float(each.scores[0]):.2f}"
                        place.set_title(label(told), fontsize=6)
                if row == rows[0]:
                    own[0].set_title(label(f"{name}: gradient"), fontsize=7)
        packed = io.BytesIO()
        FigureCanvasAgg(drawing).print_png(packed)  # type: ignore[no-untyped-call]
    return packed.getvalue()
