"""Precision of detectors under attack, for every verb that judges them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from adaptation.attacks import DetectionAttack
from adaptation.detectors import Detector, Found
from adaptation.evaluation import voc_precision
from robustkit.attacks import pure
from robustkit.compute import device_of, torch_generator
from robustkit.data import to_unit
from robustkit.data.detection import DetectionSet

BATCH = 16


def attacked(
    model: Detector, images: DetectionSet, attack: DetectionAttack, seed: int
) -> list[Found]:
    """Detections in adversarials of every image."""
    found, device = [], device_of(model)
    generator = torch_generator("judge", seed)
    for start in range(0, len(images), BATCH):
        rows = range(start, min(start + BATCH, len(images)))
        pixels = [to_unit(images.image(row)).to(device) for row in rows]
        truths = [images.truths[row] for row in rows]
        found += _detected(model, attack(model, pixels, truths, generator=generator))
    return found


def robust_ap50(
    model: Detector, images: DetectionSet, attack: DetectionAttack, seed: int
) -> float | None:
    """Mean AP50 by area over classes on adversarials of `images`."""
    found = attacked(model, images, attack, seed)
    precision = voc_precision(found, images.truths, len(images.classes))
    known = [each.ap_area for each in precision if each.ap_area is not None]
    return sum(known) / len(known) if known else None


def _detected(model: Detector, pixels: Sequence[Tensor]) -> list[Found]:
    with pure(model), torch.no_grad():
        return [
            Found(each.boxes.cpu(), each.scores.cpu(), each.labels.cpu())
            for each in model(list(pixels))
        ]
