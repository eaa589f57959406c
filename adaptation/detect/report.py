"""The report of a detector's evaluation."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from markupsafe import Markup

from adaptation.detect.pipeline import DetectOptions
from adaptation.detect.result import Evaluated, Summary, summary_of
from robustkit.errors import RunError
from robustkit.reading import read_bounded
from robustkit.report import Section, eps_text, table, write_page
from robustkit.report.sections import settings_section
from robustkit.runs import RunFolder
from robustkit.runs.summaries import read_settings

Models = Mapping[str, Evaluated]
Figure = Literal["ap50_11pt", "ap50_area", "coco_ap", "coco_ap50", "coco_ap75", "with_difficult"]
FIGURES: dict[Figure, str] = {
    "ap50_11pt": "VOC AP50, 11 points",
    "ap50_area": "VOC AP50, area",
    "coco_ap": "COCO AP",
    "coco_ap50": "COCO AP50",
    "coco_ap75": "COCO AP75",
    "with_difficult": "VOC AP50, difficult objects counted",
}


def write_report(folder: RunFolder) -> Path:
    """Draw `report.html` from what the folder holds; returns its path.

    Raises `RunError` when the evaluation has not finished.
    """
    summary, options = summary_of(folder), read_settings(folder, DetectOptions)
    models = summary.models
    sections = [
        _precision(summary, models, options),
        *_notes(summary, models),
        _classes(models),
        *_pictures(folder),
        settings_section(folder.config),
    ]
    return write_page(
        folder,
        "Detection",
        sections,
        subtitle=f"{options.model} on {options.data}",
    )


def _precision(summary: Summary, models: Models, options: DetectOptions) -> Section:
    rows: list[list[str]] = []
    for figure, title in FIGURES.items():
        rows.append([title, *(_percent(getattr(model, figure)) for model in models.values())])
    first = summary.detector
    low, high = first.sizes.edges
    sides: dict[Literal["small", "medium", "large"], str] = {
        "small": f"sides under {low:.0f} px",
        "medium": f"{low:.0f} to {high:.0f} px",
        "large": f"{high:.0f} px and more",
    }
    for size, title in sides.items():
        values = [getattr(model.sizes.ap50_area, size) for model in models.values()]
        rows.append([f"VOC AP50, {title}", *map(_percent, values)])
    for eps in first.robust_ap50:
        title = f"VOC AP50 under PGD-{options.attack_steps} within {eps_text(float(eps))}"
        rows.append([title, *(_percent(model.robust_ap50[eps]) for model in models.values())])
    note = (
        f"{summary.images} images, {first.objects} objects that count. Means over classes "
        f"with objects. Attacked: the first {first.attacked_images} images."
    )
    return Section("precision", "Precision, %", table(["", *models], rows), note)


def _notes(summary: Summary, models: Models) -> list[Section]:
    """Return the section on the detectors' weights and on classes that they do not know."""
    lines = [f"{name}: {note}" for name, model in models.items() for note in model.notes]
    if summary.left_out:
        lines.append(f"classes that the detector does not know: {', '.join(summary.left_out)}")
    html = Markup("").join(Markup("<p>{}</p>").format(line) for line in lines)
    return [Section("detector", "The detector", html, "")] if lines else []


def _classes(models: Models) -> Section:
    rows = []
    for name, first in models["detector"].classes.items():
        scores = [model.classes[name] for model in models.values()]
        cells = [str(first.objects)]
        for score in scores:
            cells += [_percent(score.ap50_area), _percent(score.coco_ap)]
        rows.append([name, *cells])
    headers = ["class", "objects"]
    for model in models:
        headers += [f"{model}: VOC AP50", "COCO AP"]
    return Section("classes", "Class by class, %", table(headers, rows), "")


def _pictures(folder: RunFolder) -> list[Section]:
    html = Markup()
    for file, caption in (
        ("detections.png", "What is there, and what is found."),
        (
            "maps.png",
            "Gradient of the loss to the image; for detectors of one stage CAV and Grad-CAM of the "
            "surest box's class (red for, blue against).",
        ),
    ):
        path = folder.file(file)
        if os.path.lexists(path):
            content = read_bounded(path, error=RunError, follow=False)
            packed = base64.b64encode(content).decode()
            html += Markup(
                "<figure><img src='data:image/png;base64,{}' alt='{}' style='max-width:100%'>"
                "<figcaption>{}</figcaption></figure>"
            ).format(packed, caption, caption)
    return [Section("pictures", "Detections", html, "")] if html else []


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"
