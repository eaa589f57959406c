"""One detected box as a score that maps can be made of."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from adaptation.detectors import Detections, Detector, statistics_of
from robustkit import explain
from robustkit.compute import device_of, isolated_rng
from robustkit.data import to_unit
from robustkit.data.detection import DetectionSet, Truth
from robustkit.errors import ExplainError
from robustkit.models import Normalise
from robustkit.models.state import state_preserved
from robustkit.report import PALETTE, chart, label
from robustkit.report.pictures import show_image


class BoxScore(nn.Module):
    """A module that maps images of the detector's size to the class logits of one of its anchors.

    The anchor is the one whose score for the class is the detection's: logits (N,K), the detector's
    classes without background. Raises `ExplainError` for a detector without anchors in a single
    stage, and where no anchor has that score.
    """

    def __init__(self, model: Detector, image: Tensor, detected: Detections, number: int) -> None:
        super().__init__()
        net: Any = model.net
        if not hasattr(net, "head") or hasattr(net, "roi_heads"):
            raise ExplainError("maps of a box need a detector of one stage (ssd, fcos, retinanet)")
        self.normalise = Normalise(*statistics_of(net)).to(image.device)
        self.backbone, self.head = net.backbone, net.head
        label, score = int(detected.labels[number]), float(detected.scores[number].detach())
        with torch.no_grad():
            outputs = self._outputs(image[None])
            scores = _scores(outputs)[0, :, label + 1]
        self.anchor = int((scores - score).abs().argmin())
        if abs(float(scores[self.anchor]) - score) > 1e-4:
            raise ExplainError(f"no anchor of the detector has the score {score:.4f}")

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of the anchor."""
        logits: Tensor = self._outputs(x)["cls_logits"][:, self.anchor, 1:]
        return logits

    def _outputs(self, x: Tensor) -> dict[str, Tensor]:
        features = list(self.backbone(self.normalise(x)).values())
        outputs: dict[str, Tensor] = self.head(features)
        return outputs


def _scores(outputs: dict[str, Tensor]) -> Tensor:
    """Return the scores that the kind of detector makes of its logits (N,A,K+1)."""
    if "bbox_ctrness" in outputs:
        return (outputs["cls_logits"].sigmoid() * outputs["bbox_ctrness"].sigmoid()).sqrt()
    return outputs["cls_logits"].softmax(dim=-1)


SURE = 0.4  # detections below are not drawn


def detections_figure(
    images: DetectionSet,
    detections: Mapping[str, Sequence[Detections]],
    rows: Sequence[int],
    sure: float = SURE,
) -> bytes:
    """Return a PNG: an image a row; the truth and each model's detections in columns."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    columns = 1 + len(detections)
    with chart(1.9 * columns, 1.9 * len(rows) + 0.3) as drawing:
        axes: Any = drawing.subplots(len(rows), columns, squeeze=False)
        for line, row in zip(axes, rows, strict=True):
            pixels = images.image(row).permute(1, 2, 0).numpy()
            for axis in line:
                axis.imshow(pixels)
                axis.set_axis_off()
            _draw(line[0], images.truths[row], None, images.classes, sure)
            for axis, detected in zip(line[1:], detections.values(), strict=True):
                _draw(axis, detected[row], detected[row].scores.tolist(), images.classes, sure)
        for axis, name in zip(axes[0], ("truth", *detections), strict=True):
            axis.set_title(label(name), fontsize=8)
        packed = io.BytesIO()
        FigureCanvasAgg(drawing).print_png(packed)  # type: ignore[no-untyped-call]
    return packed.getvalue()


def _draw(
    axis: Any,
    what: Detections | Truth,
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
        axis.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color=colour, lw=1)
        text = classes[kind] if scores is None else f"{classes[kind]} {scores[number]:.2f}"
        axis.text(x1, y1 - 1, label(text), fontsize=5, color=colour)


SPREAD = 3.0  # standard deviations from grey to the end of the scale


def input_gradient(model: Detector, image: Tensor, truth: Truth) -> Tensor:
    """Return ∂loss/∂image (3,H,W) at the true objects, on the CPU; the model is left as it was."""
    with state_preserved(model), isolated_rng(0), torch.enable_grad():
        leaf = image.detach().to(device_of(model)).requires_grad_(True)
        (slope,) = torch.autograd.grad(model.losses([leaf], [truth]).total, leaf)
    return slope.cpu()


def box_maps(model: Detector, image: Tensor, detected: Detections) -> dict[str, Tensor] | None:
    """Return CAV at the pixels and Grad-CAM (H,W) of the surest box's class, or None.

    None where nothing is found, where the image is not of the detector's own size, and for
    detectors of which no single anchor tells a box's score.
    """
    if not len(detected) or tuple(image.shape) != model.card.input_shape:
        return None
    home = image.to(device_of(model))
    try:
        score = BoxScore(model, home, detected, 0).eval()
        with explain.trace(score, home[None], int(detected.labels[0])) as trace:
            cams = explain.gradcam(trace)
            maps = {"cav": explain.cav(trace)["input"].map[0]}
    except ExplainError:
        return None
    if cams:
        last = list(cams.values())[-1]
        maps["gradcam"] = explain.enlarged(last, (image.shape[1], image.shape[2]))[0]
    return {name: values.cpu() for name, values in maps.items()}


def draw_explained(
    models: Mapping[str, Detector],
    images: DetectionSet,
    detections: Mapping[str, Sequence[Detections]],
    rows: Sequence[int],
    sure: float,
) -> bytes:
    """Return a PNG: an image a row; each detector's gradient and the maps of its surest box."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    kinds = ("input gradient", "cav", "gradcam")
    columns = 1 + len(kinds) * len(models)
    with chart(1.7 * columns, 1.7 * len(rows) + 0.3) as drawing:
        axes: Any = drawing.subplots(len(rows), columns, squeeze=False)
        for axis in axes.ravel():
            axis.set_axis_off()
        for line, row in zip(axes, rows, strict=True):
            pixels = images.image(row)
            show_image(line[0], pixels)
            for number, (name, model) in enumerate(models.items()):
                panels = line[1 + len(kinds) * number :]
                gradient = input_gradient(model, to_unit(pixels), images.truths[row])
                spread = float(gradient.std()) or 1.0
                laid = (0.5 + gradient / spread / (2 * SPREAD)).clamp(0, 1)
                panels[0].imshow(laid.permute(1, 2, 0).numpy())
                detected = detections[name][row]
                maps = box_maps(model, to_unit(pixels), detected) or {}
                for axis, kind in zip(panels[1:], kinds[1:], strict=False):
                    if kind in maps and float(detected.scores[0]) >= sure:
                        largest = float(maps[kind].abs().max()) or 1.0
                        shown = maps[kind].numpy()
                        axis.imshow(shown, cmap="bwr", vmin=-largest, vmax=largest)
                        class_name = images.classes[int(detected.labels[0])]
                        title = f"{class_name} {float(detected.scores[0]):.2f}"
                        axis.set_title(label(title), fontsize=6)
                if row == rows[0]:
                    panels[0].set_title(label(f"{name}: gradient"), fontsize=7)
        packed = io.BytesIO()
        FigureCanvasAgg(drawing).print_png(packed)  # type: ignore[no-untyped-call]
    return packed.getvalue()
