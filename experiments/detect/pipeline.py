"""Detections, their precision, what is left of it under attack, and pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from adaptation.detectors import Detector, Found
from adaptation.evaluation import detect, evaluate
from experiments.detect.config import DetectOptions
from experiments.detections import detections_figure, draw_explained, robust_ap50
from robustkit.data.detection import DetectionSet
from robustkit.runs import RunFolder, atomic_path

Say = Callable[[str], None]


def run_detect(
    model: Detector,
    other: Detector | None,
    images: DetectionSet,
    options: DetectOptions,
    folder: RunFolder,
    say: Say,
) -> dict[str, Any]:
    """Evaluate, attack and draw; returns the summary. `images` are in the detector's classes."""
    models = {"detector": model} if other is None else {"detector": model, "contrast": other}
    summary: dict[str, Any] = {}
    found: dict[str, list[Found]] = {}
    chosen = images.subset(range(min(options.attack_images, len(images))))
    for name, each in models.items():
        say(f"{name}: {len(images)} images")
        found[name] = detect(each, images)
        summary[name] = {
            **evaluate(found[name], images.truths, images.classes),
            "robust_ap50": {
                f"{eps:.12g}": robust_ap50(each, chosen, attack, options.seed)
                for eps, attack in options.attacks().items()
            },
            "attacked_images": len(chosen),
            "notes": list(each.notes),
        }
    rows = range(min(options.pictures, len(images)))
    if rows:
        drawn = detections_figure(images, found, rows, options.sure)
        with atomic_path(folder.file("detections.png")) as temporary:
            temporary.write_bytes(drawn)
        explained = draw_explained(models, images, found, rows, options.sure)
        with atomic_path(folder.file("maps.png")) as temporary:
            temporary.write_bytes(explained)
    return {"images": len(images), "classes": list(images.classes), **summary}
