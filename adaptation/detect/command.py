"""`robustkit detect`: measure the precision of a detector, and what is left of it under attack."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from adaptation.detect import DetectOptions, run_detect, write_report
from adaptation.detectors.resolve import resolve_detector
from robustkit.cli.context import add_run_options, run_folder, settings
from robustkit.cli.output import log
from robustkit.cli.parser import (
    CommandParser,
    Forms,
    Options,
    add_config,
    config_from,
    names,
    radii,
)
from robustkit.compute import resolve_device
from robustkit.data.detection import load_detection
from robustkit.errors import ConfigError
from robustkit.runs import RunFolder


def add_arguments(parser: CommandParser) -> None:
    """Declare the detector, the images, the attack, and where to put the result."""
    forms: Forms = {"eps": {"type": radii}, "trust": {"type": names}}
    add_config(parser, DetectOptions, title="detection", forms=forms)
    add_run_options(parser, resumable=False)
    parser.arrange(
        first="model data eps attack_steps pictures out",
        advanced="trust contrast attack_loss attack_images sure",
    )


def run(options: Options) -> int:
    """Evaluate a detector; write pictures, summary and report in the run folder."""
    config = settings("detect", options)
    chosen = config_from(DetectOptions, config)
    device = resolve_device(config["device"])
    images = load_detection(chosen.data, "test")
    resolve = partial(resolve_detector, download=chosen.download, trust=chosen.trust)
    model = resolve(chosen.model, chosen.weights, images.classes, device)
    contrast = None
    if chosen.contrast is not None:
        contrast = resolve(chosen.contrast, None, images.classes, device)
    known = images.with_classes(model.classes)
    left_out = [name for name in images.classes if name not in model.classes]
    for note in model.notes:
        log(note)
    if left_out:
        log(f"not evaluated, as the detector does not know them: {', '.join(left_out)}")
    if contrast is not None and contrast.classes != model.classes:
        raise ConfigError(
            f"--contrast {chosen.contrast}: its classes are {', '.join(contrast.classes)}, the "
            f"detector's {', '.join(model.classes)}: they must be the same, in the same order"
        )
    with run_folder("detect", options, config, keep_failed=False) as folder:
        models = (
            {"detector": model} if contrast is None else {"detector": model, "contrast": contrast}
        )
        summary = run_detect(models, known, chosen, folder, left_out, log)
        folder.write_summary(summary.to_json())
        path = write_report(folder)
    scores = summary.detector
    headline = {
        "ap50_11pt": scores.ap50_11pt,
        "ap50_area": scores.ap50_area,
        "coco_ap": scores.coco_ap,
    }
    for name, score in headline.items():
        log(f"{name} –" if score is None else f"{name} {100 * score:.1f} %")
    log(f"report: {path}")
    return 0


def report(folder: RunFolder) -> Path:
    """Draw the report of a finished evaluation anew."""
    return write_report(folder)
