"""Average precision by the rules of PASCAL VOC (Everingham et al. 2010, devkit of 2007 and 2012).

A detection is right if its IoU with an object of its class is above one half, that object being the
one it overlaps most, and no surer detection has taken it. Difficult objects are neither right nor
wrong to find. The devkit's boxes include their last pixel and so get a pixel more of width; boxes
here end at the far edge, and plain widths are the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from adaptation.detectors import Detections
from robustkit.compute import derive_seed
from robustkit.data.detection import Truth

IOU = 0.5
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ClassPrecision:
    """One class: AP by 11 points (2007), by area (2010 and later), and how many objects count.

    Both are None without any object that counts.
    """

    ap_11pt: float | None
    ap_area: float | None
    objects: int


def voc_precision(
    detections: Sequence[Detections], truths: Sequence[Truth], classes: int, iou: float = IOU
) -> tuple[ClassPrecision, ...]:
    """Return the precision of every class, over images whose detections and truths go together.

    COCO's regions of many objects are treated as difficult.

    >>> import torch
    >>> from robustkit.data.detection import truth
    >>> boxes = torch.tensor([[0.0, 0, 10, 10], [50, 50, 60, 60]])
    >>> found = Detections(boxes, torch.tensor([0.9, 0.8]), torch.tensor([0, 0]))
    >>> one = voc_precision([found], [truth([[0, 0, 10, 10], [20, 20, 30, 30]], [0, 0])], classes=1)
    >>> one[0].ap_area, round(one[0].ap_11pt, 4)  # half of the objects, without a mistake before
    (0.5, 0.5455)
    """
    return tuple(map(_precision, marks_of(detections, truths, classes, iou)))


def average_11pt(recall: Floats, precision: Floats) -> float:
    """Return the mean of the highest precision at recalls of at least 0, 0.1, … 1 (VOC 2007)."""
    # Tenths by division: 3 * 0.1 is above 0.3, and a recall of 3 in 10 would miss its level.
    best = [float(precision[recall >= level].max(initial=0.0)) for level in np.arange(11) / 10]
    return sum(best) / len(best)


def average_area(recall: Floats, precision: Floats) -> float:
    """Return the area under precision made monotone, over recall (VOC 2010 and later)."""
    edges = np.concatenate([[0.0], recall, [1.0]])
    heights = np.concatenate([[0.0], precision, [0.0]])
    heights = np.maximum.accumulate(heights[::-1])[::-1]
    return float((np.diff(edges) * heights[1:]).sum())


def _own(truth: Truth, number: int) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the boxes of one class in an image, and which of them do not count."""
    chosen = truth.labels == number
    boxes = truth.boxes[chosen].double().numpy()
    return boxes, (truth.difficult | truth.crowd)[chosen].numpy()


@dataclass(frozen=True, eq=False)
class Marks:
    """The detections of one class in N images, the surest first: in which image each of them is,
    and whether it is `right` or `wrong`; neither where it hits what does not count. `objects`
    (N,) are those that count in each image.
    """

    image: NDArray[np.int64]
    right: Floats
    wrong: Floats
    objects: NDArray[np.int64]


def marks_of(
    detections: Sequence[Detections], truths: Sequence[Truth], classes: int, iou: float = IOU
) -> list[Marks]:
    """Return the marks of every class; see `voc_precision`."""
    boxes = [detected.boxes.double().numpy() for detected in detections]
    scores = [detected.scores.double().numpy() for detected in detections]
    labels = [detected.labels.numpy() for detected in detections]
    result = []
    for number in range(classes):
        class_truths = [_own(truth, number) for truth in truths]
        chosen = [np.nonzero(image_labels == number)[0] for image_labels in labels]
        image = np.repeat(np.arange(len(detections)), [len(rows) for rows in chosen])
        sure = np.concatenate([s[c] for s, c in zip(scores, chosen, strict=True)] or [np.empty(0)])
        box = np.concatenate([b[c] for b, c in zip(boxes, chosen, strict=True)])
        # The surest first, ties in the order of images and of detections in them.
        order = np.argsort(-sure, kind="stable")
        result.append(_marks(box[order], image[order], class_truths, iou))
    return result


def _marks(
    boxes: Floats,
    image: NDArray[np.int64],
    truths: Sequence[tuple[Floats, NDArray[np.bool_]]],
    iou: float,
) -> Marks:
    matched = [np.zeros(len(image_boxes), dtype=bool) for image_boxes, _ in truths]
    right, wrong = np.zeros(len(boxes)), np.zeros(len(boxes))
    for rank, (box, number) in enumerate(zip(boxes, image, strict=True)):
        image_boxes, ignored = truths[number]
        overlaps = overlap(box, image_boxes)
        best = int(overlaps.argmax()) if len(image_boxes) else -1
        if best < 0 or not overlaps[best] > iou:
            wrong[rank] = 1
        elif not ignored[best]:
            right[rank], wrong[rank] = not matched[number][best], matched[number][best]
            matched[number][best] = True
    return Marks(image, right, wrong, np.array([(~ignored).sum() for _, ignored in truths]))


def _precision(marks: Marks) -> ClassPrecision:
    objects = int(marks.objects.sum())
    if not objects:
        return ClassPrecision(None, None, 0)
    hits, misses = marks.right.cumsum(), marks.wrong.cumsum()
    recall = hits / objects
    precision = hits / np.maximum(hits + misses, 1e-300)
    return ClassPrecision(average_11pt(recall, precision), average_area(recall, precision), objects)


DRAWS = 200  # samples of the pictures


def redrawn_ap50(
    detections: Sequence[Detections],
    truths: Sequence[Truth],
    classes: int,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> list[float]:
    """Return the mean AP50 by area on samples, with replacement, of the pictures.

    The samples are the same for all detectors on as many pictures. What counts is each picture's
    own, so nothing is matched again. A class that a sample has no object of is left out of its
    mean; a sample without any has 0.
    """
    rng = np.random.default_rng(derive_seed("pictures", seed))
    count = len(truths)
    times = rng.multinomial(count, np.full(count, 1 / count), size=draws).astype(np.float64)
    total, known = np.zeros(draws), np.zeros(draws)
    for marks in marks_of(detections, truths, classes):
        objects = times @ marks.objects
        there = objects > 0
        areas = np.array(
            [_area(marks, row, n) for row, n in zip(times[there], objects[there], strict=True)]
        )
        total[there] += areas
        known += there
    values: list[float] = (total / np.maximum(known, 1)).tolist()
    return values


def _area(marks: Marks, times: Floats, objects: float) -> float:
    """Return AP by area of pictures taken so many `times` (N,), which have so many objects."""
    taken = times[marks.image]
    hits, misses = (marks.right * taken).cumsum(), (marks.wrong * taken).cumsum()
    return average_area(hits / objects, hits / np.maximum(hits + misses, 1e-300))


def overlap(box: Floats, others: Floats) -> Floats:
    """Return intersection over union (n,) of a box (4,) with others (n,4)."""
    corner, far = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    common = (far - corner).clip(min=0).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    return np.asarray(common / np.maximum(areas - common, 1e-300))


SIZES = ("small", "medium", "large")


def size_edges(truths: Sequence[Truth]) -> tuple[float, float]:
    """Return the sides, in pixels, that divide the objects of a set into thirds by their area."""
    sides = np.concatenate([_sides(truth.boxes) for truth in truths] or [np.empty(0)])
    if not len(sides):
        return 0.0, 0.0
    low, high = np.quantile(sides, [1 / 3, 2 / 3])
    return float(low), float(high)


def by_size(
    detections: Sequence[Detections],
    truths: Sequence[Truth],
    classes: int,
    edges: tuple[float, float],
) -> dict[str, float | None]:
    """Return the mean AP50 by area of small, medium and large objects; other sizes do not count.

    As in COCO's: a detection of another size that hits nothing of this size is left out.
    """
    ranges = ((0.0, edges[0]), (edges[0], edges[1]), (edges[1], np.inf))
    return {
        name: mean_ap50(*_of_size(detections, truths, low, high), classes)
        for name, (low, high) in zip(SIZES, ranges, strict=True)
    }


def with_difficult(
    detections: Sequence[Detections], truths: Sequence[Truth], classes: int
) -> float | None:
    """Return mean AP50 by area in [0,1], difficult objects counted as any other.

    None without any.
    """
    easy = [replace(truth, difficult=torch.zeros_like(truth.difficult)) for truth in truths]
    return mean_ap50(detections, easy, classes)


def mean_ap50(
    detections: Sequence[Detections], truths: Sequence[Truth], classes: int
) -> float | None:
    """Return the mean over classes with objects of AP50 by area, None without any."""
    known = [precision.ap_area for precision in voc_precision(detections, truths, classes)]
    values = [value for value in known if value is not None]
    return sum(values) / len(values) if values else None


def _of_size(
    detections: Sequence[Detections], truths: Sequence[Truth], low: float, high: float
) -> tuple[list[Detections], list[Truth]]:
    chosen, marked = [], []
    for detected, truth in zip(detections, truths, strict=True):
        true_sides = torch.from_numpy(_sides(truth.boxes))
        other_size = (true_sides < low) | (true_sides >= high)
        marked.append(replace(truth, difficult=truth.difficult | other_size))
        sides = torch.from_numpy(_sides(detected.boxes))
        kept = ((sides >= low) & (sides < high)) | _hits(detected, truth)
        chosen.append(
            Detections(detected.boxes[kept], detected.scores[kept], detected.labels[kept])
        )
    return chosen, marked


def _hits(detected: Detections, truth: Truth) -> torch.Tensor:
    from torchvision.ops import box_iou

    if not len(detected) or not len(truth):
        return torch.zeros(len(detected), dtype=torch.bool)
    same = detected.labels[:, None] == truth.labels[None]
    hits: torch.Tensor = ((box_iou(detected.boxes, truth.boxes) > 0.5) & same).any(dim=1)
    return hits


def _sides(boxes: torch.Tensor) -> np.ndarray:
    sides = (boxes[:, 2:] - boxes[:, :2]).double().clamp_min(0).prod(dim=1).sqrt()
    return np.asarray(sides.numpy())
