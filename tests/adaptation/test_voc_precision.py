"""VOC's average precision against a slow reading of the devkit's rules."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adaptation.detectors import Detections
from adaptation.evaluation import redrawn_ap50, voc_precision
from robustkit.compute import derive_seed
from robustkit.data.detection import Truth, truth


def found(boxes: list[list[float]], scores: list[float], labels: list[int]) -> Detections:
    return Detections(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(scores, dtype=torch.float32),
        torch.tensor(labels, dtype=torch.int64),
    )


def inclusive(box: list[float]) -> tuple[float, float, float, float]:
    """The devkit's box: counted from 1, the last pixel included."""
    return box[0] + 1, box[1] + 1, box[2], box[3]


def devkit_overlap(a: list[float], b: list[float]) -> float:
    """Widths get a pixel more, as in VOCevaldet."""
    ax, ay, au, av = inclusive(a)
    bx, by, bu, bv = inclusive(b)
    width, height = min(au, bu) - max(ax, bx) + 1, min(av, bv) - max(ay, by) + 1
    if width <= 0 or height <= 0:
        return 0.0
    area = (au - ax + 1) * (av - ay + 1) + (bu - bx + 1) * (bv - by + 1) - width * height
    return width * height / area


def devkit(detections: list[Detections], truths: list[Truth], label: int) -> tuple[Any, Any, int]:
    """AP by 11 points and by area, one detection after the other, plain lists."""
    listed = []
    for image, each in enumerate(detections):
        for place in range(len(each)):
            if int(each.labels[place]) == label:
                listed.append((float(each.scores[place]), image, each.boxes[place].tolist()))
    listed.sort(key=lambda entry: -entry[0])
    known: list[list[list[Any]]] = []
    for there in truths:
        own = [place for place in range(len(there)) if int(there.labels[place]) == label]
        passed_over = there.difficult | there.crowd
        known.append([[there.boxes[p].tolist(), bool(passed_over[p]), False] for p in own])
    objects = sum(not difficult for image in known for _, difficult, _ in image)
    if not objects:
        return None, None, 0
    right = wrong = 0
    curve: list[tuple[float, float]] = []
    for _, image, box in listed:
        best, at = -math.inf, None
        for entry in known[image]:
            overlap = devkit_overlap(box, entry[0])
            if overlap > best:
                best, at = overlap, entry
        if at is not None and best > 0.5:
            if not at[1]:
                if at[2]:
                    wrong += 1
                else:
                    right, at[2] = right + 1, True
        else:
            wrong += 1
        curve.append((right / objects, right / max(right + wrong, 1e-300)))
    eleven = 0.0
    for tenth in range(11):
        reached = [precision for recall, precision in curve if recall >= tenth / 10 - 1e-12]
        eleven += max(reached, default=0.0) / 11
    area, last = 0.0, 0.0
    for place, (recall, _) in enumerate(curve):
        area += (recall - last) * max(precision for _, precision in curve[place:])
        last = recall
    return eleven, area, objects


whole = st.integers(0, 12)
boxes = st.tuples(whole, whole, st.integers(1, 8), st.integers(1, 8)).map(
    lambda b: [float(b[0]), float(b[1]), float(b[0] + b[2]), float(b[1] + b[3])]
)


@st.composite
def images(draw: Any) -> tuple[list[Detections], list[Truth]]:
    detections, truths = [], []
    scores = st.integers(0, 3).map(lambda tie: 250 * tie) | st.integers(0, 1000)
    for _ in range(draw(st.integers(1, 4))):
        own = draw(st.lists(st.tuples(boxes, st.integers(0, 1), st.integers(0, 3)), max_size=4))
        truths.append(
            truth(
                [box for box, _, _ in own],
                [label for _, label, _ in own],
                difficult=[kind == 1 for _, _, kind in own],
                crowd=[kind == 2 for _, _, kind in own],
            )
        )
        # Detections close to the truth, and anywhere.
        near = [(draw(boxes) if draw(st.booleans()) else box, label) for box, label, _ in own]
        far = draw(st.lists(st.tuples(boxes, st.integers(0, 1)), max_size=4))
        listed = near + near[: draw(st.integers(0, 2))] + far
        sure = [draw(scores) / 1000 for _ in listed]
        detections.append(found([b for b, _ in listed], sure, [label for _, label in listed]))
    return detections, truths


@given(images())
def test_precision_is_the_devkits(case: tuple[list[Detections], list[Truth]]) -> None:
    detections, truths = case
    for label, each in enumerate(voc_precision(detections, truths, 2)):
        eleven, area, objects = devkit(detections, truths, label)
        assert each.objects == objects
        assert each.ap_11pt == (None if eleven is None else pytest.approx(eleven, abs=1e-12))
        assert each.ap_area == (None if area is None else pytest.approx(area, abs=1e-12))


@pytest.mark.parametrize("seed", range(8))
def test_many_detections_with_many_ties_are_the_devkits(seed: int) -> None:
    """Curves that go up and down: 40 detections, at four scores, of 24 objects."""
    generator = torch.Generator().manual_seed(seed)
    detections, truths = [], []
    for _ in range(4):
        own = [[12.0 * place, 0.0, 12.0 * place + 10, 10.0] for place in range(6)]
        truths.append(truth(own, [0] * 6))
        moved = torch.randint(0, 6, (10,), generator=generator)
        down = torch.randint(0, 8, (10,), generator=generator)
        boxes = [
            [12.0 * x, float(y), 12.0 * x + 10, y + 10.0] for x, y in zip(moved, down, strict=True)
        ]
        sure = torch.randint(1, 5, (10,), generator=generator) / 5
        detections.append(found(boxes, sure.tolist(), [0] * 10))
    (own_precision,) = voc_precision(detections, truths, 1)
    eleven, area, _ = devkit(detections, truths, 0)
    assert own_precision.ap_11pt == pytest.approx(eleven, abs=1e-12)
    assert own_precision.ap_area == pytest.approx(area, abs=1e-12)


def test_precision_is_the_best_at_this_recall_or_a_higher_one() -> None:
    squares = [[20.0, 0.0, 30.0, 10.0], [40.0, 0.0, 50.0, 10.0]]
    wrong_first = found([[80.0, 0.0, 90.0, 10.0], *squares], [0.9, 0.8, 0.7], [0, 0, 0])
    (own,) = voc_precision([wrong_first], [truth(squares, [0, 0])], 1)
    # 0, 1/2, 2/3 of the first one, two, three are right: 2/3 at every recall.
    assert own.ap_area == pytest.approx(2 / 3)
    assert own.ap_11pt == pytest.approx(2 / 3)


def test_of_equally_sure_detections_the_first_goes_first() -> None:
    box, stray = [0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0]
    truths = [truth([box], [0])]
    assert voc_precision([found([box, stray], [0.5, 0.5], [0, 0])], truths, 1)[0].ap_area == 1
    assert voc_precision([found([stray, box], [0.5, 0.5], [0, 0])], truths, 1)[0].ap_area == 0.5


@pytest.mark.parametrize("objects", range(1, 31))
def test_a_recall_on_a_tenth_reaches_it(objects: int) -> None:
    squares = [[20.0 * place, 0.0, 20.0 * place + 10, 10.0] for place in range(objects)]
    truths = [truth(squares, [0] * objects)]
    for hits in range(objects + 1):
        detections = [found(squares[:hits], [0.9] * hits, [0] * hits)]
        reached = sum(10 * hits >= tenth * objects for tenth in range(11)) if hits else 0
        result = voc_precision(detections, truths, 1)[0].ap_11pt
        assert result == pytest.approx(reached / 11, abs=1e-12)


def test_an_overlap_of_just_one_half_is_not_enough() -> None:
    truths = [truth([[0, 0, 10, 10]], [0])]
    half, more = [0.0, 0.0, 10.0, 5.0], [0.0, 0.0, 10.0, 5.1]
    assert voc_precision([found([half], [0.9], [0])], truths, 1)[0].ap_area == 0
    assert voc_precision([found([more], [0.9], [0])], truths, 1)[0].ap_area == 1


def test_a_second_hit_is_wrong_and_a_difficult_object_is_neither() -> None:
    box = [0.0, 0.0, 10.0, 10.0]
    truths = [truth([box, [20, 20, 30, 30]], [0, 0], difficult=[False, True])]
    twice = found([box, box, [20.0, 20.0, 30.0, 30.0]], [0.5, 0.9, 0.99], [0, 0, 0])
    (own,) = voc_precision([twice], truths, 1)
    assert own.objects == 1
    assert own.ap_area == 1  # the surest two: one passed over, one right
    first_wrong = found([[50.0, 50.0, 60.0, 60.0], box], [0.9, 0.5], [0, 0])
    assert voc_precision([first_wrong], truths, 1)[0].ap_area == 0.5


def test_a_second_detection_of_a_found_object_takes_no_other_one() -> None:
    """COCO would give it the second object, which it overlaps by four fifths."""
    first, second = [0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 8.0]
    detections = [found([first, first], [0.9, 0.8], [0, 0])]
    truths = [truth([first, second], [0, 0])]
    (own,) = voc_precision(detections, truths, 1)
    assert devkit(detections, truths, 0) == pytest.approx((6 / 11, 0.5, 2))
    assert (own.ap_11pt, own.ap_area, own.objects) == pytest.approx((6 / 11, 0.5, 2))


def test_nothing_found_and_nothing_there() -> None:
    nothing = found([], [], [])
    none, some = voc_precision([nothing], [truth([[0, 0, 5, 5]], [1])], 2)
    assert (none.ap_11pt, none.ap_area, none.objects) == (None, None, 0)
    assert (some.ap_11pt, some.ap_area, some.objects) == (0, 0, 1)
    assert voc_precision([nothing], [truth([], [])], 1)[0].ap_area is None


def test_samples_of_the_pictures_are_what_repeated_pictures_give() -> None:
    rng = np.random.default_rng(0)
    detections, truths = [], []
    for _ in range(12):
        count = int(rng.integers(0, 6))
        corners = rng.uniform(0, 60, (count, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(5, 30, (count, 2))], axis=1)
        moved = boxes + rng.normal(0, 2, boxes.shape)
        labels = rng.integers(0, 2, count)
        hard = rng.random(count) < 0.2
        truths.append(truth(boxes.tolist(), labels.tolist(), difficult=hard.tolist()))
        detections.append(found(moved.tolist(), sorted(rng.random(count))[::-1], labels.tolist()))
    values = redrawn_ap50(detections, truths, 2, draws=20, seed=4)
    times = np.random.default_rng(derive_seed("pictures", 4)).multinomial(
        12, np.full(12, 1 / 12), size=20
    )
    for value, row in zip(values, times, strict=True):
        rows = np.repeat(np.arange(12), row)
        again = voc_precision([detections[n] for n in rows], [truths[n] for n in rows], 2)
        known = [each.ap_area for each in again if each.ap_area is not None]
        assert value == pytest.approx(sum(known) / len(known), abs=1e-9)
    assert len(set(values)) > 10
