"""From a subject and the options to maps, figures and a summary."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustkit import explain
from robustkit.attacks import predict
from robustkit.commands.explain.config import ExplainOptions
from robustkit.commands.explain.panels import draw_panels
from robustkit.commands.explain.scores import (
    check_mask,
    contrast,
    contributions,
    masking_check,
    score_maps,
)
from robustkit.commands.explain.subject import Subject
from robustkit.errors import ExplainError
from robustkit.explain.methods import Maps, MapSettings, make_maps
from robustkit.jobs import Log
from robustkit.runs import RunFolder, atomic_path


def run_explain(
    subject: Subject, options: ExplainOptions, folder: RunFolder, say: Log
) -> dict[str, Any]:
    """Make every map, write `maps.npz` and a picture for each image; returns the summary."""
    settings = map_settings(options)
    images, targets = subject.pixels, subject.targets(options.target)
    check_mask(subject.model, images, options)
    maps = make_maps(subject.model, images, targets, options.method, settings)
    summary: dict[str, Any] = {"images": describe(subject, targets, options)}
    if subject.judged is not None:
        summary["pixel_space"] = subject.judged.pixel_space().to_json()
    if subject.transfer is not None:
        summary["transfer"] = dict(subject.transfer)
    others: dict[str, Maps] | None = None
    if subject.other is not None:
        say("the same maps of the other model")
        try:
            others = make_maps(subject.other, images, targets, options.method, settings)
        except ExplainError as error:
            raise ExplainError(f"the other model: {error}") from None
        summary["contrast"] = contrast(maps, others)
    if options.mask is not None:
        say("masking check")
        summary["mask"] = masking_check(subject.model, images, targets, options, subject.classes)
    if options.check:
        say("deletion, insertion, sanity and stability")
        summary["scores"] = judge(subject, targets, maps, summary["images"], options)
    write_arrays(folder.file("maps.npz"), _arrays(images, maps, others))
    for name, drawn in draw_panels(subject, targets, maps, others):
        with atomic_path(folder.file(name)) as temporary:
            temporary.write_bytes(drawn)
    return summary


def map_settings(options: ExplainOptions) -> MapSettings:
    """What maps need of the options."""
    return MapSettings(
        **{name: getattr(options, name) for name in MapSettings.__dataclass_fields__}
    )


def judge(
    subject: Subject,
    targets: Tensor,
    maps: Mapping[str, Maps],
    described: Sequence[Mapping[str, Any]],
    options: ExplainOptions,
) -> dict[str, Any]:
    """How good the maps of the described images are; see `score_maps`."""
    missed = [each["residual_max"] for each in described]
    residuals = None if None in missed else torch.tensor(missed)
    settings = map_settings(options)
    return score_maps(subject.model, subject.pixels, targets, maps, residuals, options, settings)


def describe(subject: Subject, targets: Tensor, options: ExplainOptions) -> list[dict[str, Any]]:
    """What is known of every image; `residual_max` only where CAV has a convention for the net."""
    with explain.trace(subject.model, subject.pixels, targets, options.layers) as trace:
        residual = None
        cuts = [each for each in contributions(trace, paper=options.paper).values() if each.cut]
        if cuts:
            residual = torch.stack([each.residual.abs() for each in cuts]).amax(dim=0)
        said = trace.logits.softmax(dim=1)
        predicted = trace.logits.argmax(dim=1)
        score = trace.score
    classes = subject.classes
    others = None if subject.other is None else predict(subject.other, subject.images)
    return [
        {
            "index": name,
            "true": None if subject.labels is None else classes[int(subject.labels[row])],
            "predicted": classes[int(predicted[row])],
            "target": classes[int(targets[row])],
            "score": float(score[row]),
            "probability": float(said[row, targets[row]]),
            "residual_max": None if residual is None else float(residual[row]),
            "other": None
            if others is None
            else {
                "predicted": classes[int(others[row].argmax())],
                "score": float(others[row, targets[row]]),
                "probability": float(others[row].softmax(dim=0)[targets[row]]),
            },
        }
        for row, name in enumerate(subject.names)
    ]


def _arrays(
    images: Tensor, maps: Mapping[str, Maps], others: Mapping[str, Maps] | None
) -> dict[str, NDArray[Any]]:
    """METHOD (N,H,W), METHOD/LAYER (N,h,w) at the layer's own size, and contrast/… likewise."""
    arrays: dict[str, NDArray[Any]] = {"images": images.numpy()}
    for prefix, made in (("", maps), ("contrast/", others or {})):
        for name, each in made.items():
            arrays[f"{prefix}{name}"] = each.pixels.cpu().numpy()
            for layer, values in each.layers.items():
                arrays[f"{prefix}{name}/{layer}"] = values.cpu().numpy()
    return arrays


def write_arrays(file: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write an `.npz`, whole or not at all, the same bytes for the same arrays."""
    packed = io.BytesIO()
    # np.savez takes names as keywords, "file" among them.
    np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]
    with atomic_path(file) as temporary:
        temporary.write_bytes(packed.getvalue())
