"""COCO's figures on cases that can be worked out by hand, breakdowns, and the whole evaluation."""

from __future__ import annotations

import pytest
import torch

from adaptation import detectors
from adaptation.detectors import Detections
from adaptation.evaluation import (
    by_size,
    coco_precision,
    detect,
    evaluate,
    size_edges,
    voc_precision,
    with_difficult,
)
from adaptation.evaluation.evaluate import BySize, ClassScores
from robustkit.data.detection import load_detection, truth
from robustkit.stats import mean_over_trainings
from tests.adaptation.test_voc_precision import found

BOX = [10.0, 10.0, 50.0, 50.0]


def test_a_perfect_detection_is_worth_one() -> None:
    got = coco_precision([found([BOX], [0.9], [0])], [truth([BOX], [0])], 2)
    assert (got.ap, got.ap50, got.ap75) == pytest.approx((1.0, 1.0, 1.0))
    assert list(got.by_class) == [pytest.approx(1.0), None]
    assert list(got.sizes) == [None, pytest.approx(1.0), None]  # 1,600 pixels: medium


def test_an_overlap_counts_up_to_its_own_threshold() -> None:
    # 40 x 40 against 40 x 30 within it: IoU 0.75, right at 0.50, 0.55, ... 0.75 of ten thresholds.
    part = [10.0, 10.0, 50.0, 40.0]
    got = coco_precision([found([part], [0.9], [0])], [truth([BOX], [0])], 1)
    assert got.ap == pytest.approx(0.6)
    assert got.ap75 == pytest.approx(1.0)
    less = [10.0, 10.0, 50.0, 39.0]
    got = coco_precision([found([less], [0.9], [0])], [truth([BOX], [0])], 1)
    assert got.ap == pytest.approx(0.5)
    assert got.ap75 == 0


def test_one_of_two_objects_found_at_half_the_recall() -> None:
    truths = [truth([BOX, [60, 60, 90, 90]], [0, 0])]
    got = coco_precision([found([BOX], [0.9], [0])], truths, 1)
    # Recalls 0, 0.01, ... 0.50 of 101 have precision 1.
    assert got.ap50 == pytest.approx(51 / 101)
    other = [0.0, 0.0, 5.0, 5.0]
    got = coco_precision([found([other, BOX], [0.9, 0.8], [0, 0])], truths, 1)
    assert got.ap50 == pytest.approx(0.5 * 51 / 101)


def test_crowds_are_neither_found_nor_missed_and_difficult_objects_count() -> None:
    crowd = truth([BOX, [0, 60, 99, 99]], [0, 0], crowd=[False, True])
    inside = [[20.0, 70.0, 40.0, 90.0], [50.0, 70.0, 70.0, 90.0]]
    got = coco_precision([found([*inside, BOX], [0.9, 0.9, 0.5], [0, 0, 0])], [crowd], 1)
    assert got.ap50 == pytest.approx(1.0)
    hard = truth([BOX], [0], difficult=[True])
    assert coco_precision([found([], [], [])], [hard], 1).ap == 0
    assert coco_precision([found([BOX], [0.3], [0])], [hard], 1).ap == pytest.approx(1.0)


def test_a_set_without_detections_and_a_class_without_truth() -> None:
    nothing = [found([], [], []), found([], [], [])]
    got = evaluate(nothing, [truth([BOX], [1]), truth([], [])], ("a", "b"))
    assert got.ap50_area == got.ap50_11pt == got.coco_ap == 0
    none = ClassScores(ap50_11pt=None, ap50_area=None, coco_ap=None, objects=0)
    assert got.classes["a"] == none
    assert got.objects == 1
    nowhere = evaluate(nothing, [truth([], []), truth([], [])], ("a",))
    assert nowhere.coco_ap is None
    assert nowhere.ap50_area is None
    assert nowhere.sizes.ap50_area == BySize(small=None, medium=None, large=None)


def test_means_are_over_classes_with_objects_alone() -> None:
    """Of three classes one is found, one is missed, and one is nowhere."""
    truths = [truth([BOX, [60, 60, 90, 90]], [0, 1])]
    got = evaluate([found([BOX, BOX], [0.9, 0.8], [0, 2])], truths, ("a", "b", "c"))
    assert (got.ap50_area, got.ap50_11pt) == (0.5, 0.5)
    assert got.coco_ap == pytest.approx(0.5)
    assert with_difficult([found([BOX], [0.9], [0])], truths, 3) == 0.5


def test_precision_by_size_leaves_the_other_sizes_out() -> None:
    sizes = [[0, 0, 10, 10], [20, 20, 40, 40], [50, 50, 90, 90]]
    truths = [truth(sizes, [0, 0, 0])]
    edges = size_edges(truths)
    assert 10 < edges[0] <= 20 < edges[1] <= 40
    only_small = [found([[0.0, 0.0, 10.0, 10.0], [60.0, 0.0, 75.0, 15.0]], [0.5, 0.9], [0, 0])]
    got = by_size(only_small, truths, 1, (15.0, 30.0))
    # The stray detection of 15 pixels is of medium size: it harms that alone.
    assert got == {"small": 1.0, "medium": 0.0, "large": 0.0}


def test_difficult_objects_counted_and_not() -> None:
    truths = [truth([BOX, [60, 60, 90, 90]], [0, 0], difficult=[False, True])]
    detections = [found([BOX], [0.9], [0])]
    assert voc_precision(detections, truths, 1)[0].ap_area == 1
    assert with_difficult(detections, truths, 1) == 0.5


def test_intervals_over_trainings() -> None:
    got = mean_over_trainings([0.1, 0.2, 0.3, None])
    # Student's t for two degrees of freedom, 4.303, times 0.1 / sqrt(3).
    assert got.value == pytest.approx(0.2)
    assert got.high is not None
    assert got.high - 0.2 == pytest.approx(4.3027 * 0.1 / 3**0.5, rel=1e-4)
    assert got.n == 3
    assert mean_over_trainings([0.5]).low is None
    assert mean_over_trainings([None]).value is None


def test_detect_takes_images_one_by_one_or_together_and_leaves_the_model_alone() -> None:
    images = load_detection("shapes:clipart:5?side=96", "test")
    model = detectors.build("tiny_ssd?norm=batch&side=96", images.classes, seed=0).train()
    state = {name: each.clone() for name, each in model.state_dict().items()}
    torch.manual_seed(3)
    before = torch.get_rng_state()
    together, single = detect(model, images, batch=5), detect(model, images, batch=1)
    for a, b in zip(together, single, strict=True):
        assert isinstance(a, Detections)
        torch.testing.assert_close(a.scores, b.scores)
        torch.testing.assert_close(a.boxes, b.boxes)
    assert model.training
    assert all(torch.equal(state[name], each) for name, each in model.state_dict().items())
    assert torch.equal(before, torch.get_rng_state())
