"""The report of a detector's evaluation."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from experiments.pages import eps_text, finished, settings_section
from robustkit.runs import RunFolder, write_text
from robustkit.runs.report import Section, render_report, table

Summary = dict[str, Any]
FIGURES = {
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
    summary = finished(folder)
    models: list[str] = [name for name in ("detector", "contrast") if name in summary]
    sections = [
        _precision(summary, models, folder.config),
        *_notes(summary, models),
        _classes(summary, models),
        *_pictures(folder),
        settings_section(folder.config),
    ]
    page = render_report(
        "Detection",
        sections,
        subtitle=f"{folder.config['model']} on {folder.config['data']}",
        env=folder.env,
        command=folder.env["command"],
    )
    path = folder.file("report.html")
    write_text(path, page)
    return path


def _precision(summary: Summary, models: Sequence[str], config: dict[str, Any]) -> Section:
    rows: list[list[str]] = []
    for figure, told in FIGURES.items():
        rows.append([told, *(_percent(summary[name][figure]) for name in models)])
    first = summary[models[0]]
    low, high = first["sizes"]["edges"]
    for size, told in zip(
        ("small", "medium", "large"),
        (f"sides under {low:.0f} px", f"{low:.0f} to {high:.0f} px", f"{high:.0f} px and more"),
        strict=True,
    ):
        values = [summary[name]["sizes"]["ap50_area"][size] for name in models]
        rows.append([f"VOC AP50, {told}", *map(_percent, values)])
    for eps in first["robust_ap50"]:
        told = f"VOC AP50 under PGD-{config['attack_steps']} within {eps_text(float(eps))}"
        rows.append([told, *(_percent(summary[name]["robust_ap50"][eps]) for name in models)])
    note = (
        f"{summary['images']} images, {first['objects']} objects that count. Means over classes "
        f"with objects. Attacked: the first {first['attacked_images']} images."
    )
    return Section("precision", "Precision, %", table(["", *models], rows), note)


def _notes(summary: Summary, models: Sequence[str]) -> list[Section]:
    """Whose weights the detectors have, and what of the data they know nothing of."""
    lines = [f"{name}: {note}" for name in models for note in summary[name].get("notes", [])]
    if summary.get("left_out"):
        lines.append(f"classes that the detector does not know: {', '.join(summary['left_out'])}")
    html = Markup("").join(Markup("<p>{}</p>").format(line) for line in lines)
    return [Section("detector", "The detector", html, "")] if lines else []


def _classes(summary: Summary, models: Sequence[str]) -> Section:
    rows = []
    for name, first in summary[models[0]]["classes"].items():
        own = [summary[model]["classes"][name] for model in models]
        cells = [str(first["objects"])]
        for each in own:
            cells += [_percent(each["ap50_area"]), _percent(each["coco_ap"])]
        rows.append([name, *cells])
    headers = ["class", "objects"]
    for model in models:
        headers += [f"{model}: VOC AP50", "COCO AP"]
    return Section("classes", "Class by class, %", table(headers, rows), "")


def _pictures(folder: RunFolder) -> list[Section]:
    html = Markup()
    for file, told in (
        ("detections.png", "What is there, and what is found."),
        (
            "maps.png",
            "Gradient of the loss to the image; for detectors of one stage CAV and Grad-CAM of the "
            "surest box's class (red for, blue against).",
        ),
    ):
        path = folder.file(file)
        if path.is_file():
            packed = base64.b64encode(path.read_bytes()).decode()
            html += Markup(
                "<figure><img src='data:image/png;base64,{}' alt='{}' style='max-width:100%'>"
                "<figcaption>{}</figcaption></figure>"
            ).format(packed, told, told)
    return [Section("pictures", "Detections", html, "")] if html else []


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"
