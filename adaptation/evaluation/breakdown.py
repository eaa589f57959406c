"""Precision by the size of objects, and with difficult ones counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from adaptation.detectors import Found
from adaptation.evaluation.voc import voc_precision
from robustkit.data.detection import Truth

SIZES = ("small", "medium", "large")


def size_edges(truths: Sequence[Truth]) -> tuple[float, float]:
    """The sides, in pixels, that divide the objects of a set into thirds by their area."""
    sides = np.concatenate([_sides(truth.boxes) for truth in truths] or [np.empty(0)])
    if not len(sides):
        return 0.0, 0.0
    low, high = np.quantile(sides, [1 / 3, 2 / 3])
    return float(low), float(high)


def by_size(
    found: Sequence[Found], truths: Sequence[Truth], classes: int, edges: tuple[float, float]
) -> dict[str, float | None]:
    """Mean AP50 by area of small, medium and large objects, the others not counting.

    As in COCO's: a detection of another size that hits nothing of this size is left out.
    """
    ranges = ((0.0, edges[0]), (edges[0], edges[1]), (edges[1], np.inf))
    return {
        name: mean_ap50(*_of_size(found, truths, low, high), classes)
        for name, (low, high) in zip(SIZES, ranges, strict=True)
    }


def with_difficult(found: Sequence[Found], truths: Sequence[Truth], classes: int) -> float | None:
    """Mean AP50 by area in [0,1], difficult objects counted as any other; None without any."""
    easy = [replace(truth, difficult=torch.zeros_like(truth.difficult)) for truth in truths]
    return mean_ap50(found, easy, classes)


def mean_ap50(found: Sequence[Found], truths: Sequence[Truth], classes: int) -> float | None:
    """The mean over classes with objects of AP50 by area, None without any."""
    known = [each.ap_area for each in voc_precision(found, truths, classes)]
    values = [value for value in known if value is not None]
    return sum(values) / len(values) if values else None


def _of_size(
    found: Sequence[Found], truths: Sequence[Truth], low: float, high: float
) -> tuple[list[Found], list[Truth]]:
    chosen, marked = [], []
    for each, truth in zip(found, truths, strict=True):
        sides = torch.from_numpy(_sides(truth.boxes))
        marked.append(replace(truth, difficult=truth.difficult | (sides < low) | (sides >= high)))
        own = torch.from_numpy(_sides(each.boxes))
        kept = ((own >= low) & (own < high)) | _hits(each, truth)
        chosen.append(Found(each.boxes[kept], each.scores[kept], each.labels[kept]))
    return chosen, marked


def _hits(found: Found, truth: Truth) -> torch.Tensor:
    from torchvision.ops import box_iou

    if not len(found) or not len(truth):
        return torch.zeros(len(found), dtype=torch.bool)
    same = found.labels[:, None] == truth.labels[None]
    hits: torch.Tensor = ((box_iou(found.boxes, truth.boxes) > 0.5) & same).any(dim=1)
    return hits


def _sides(boxes: torch.Tensor) -> np.ndarray:
    sides = (boxes[:, 2:] - boxes[:, :2]).double().clamp_min(0).prod(dim=1).sqrt()
    return np.asarray(sides.numpy())
