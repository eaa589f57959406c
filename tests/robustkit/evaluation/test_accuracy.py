"""Accuracy is a count; what is suspect of it is said in one line."""

from __future__ import annotations

import pytest

from robustkit import evaluation
from robustkit.errors import DataError
from robustkit.stats import wilson
from tests.robustkit.attacks.nets import smooth_net, striped

IMAGES = striped(30)


def test_accuracy_is_the_share_of_right_images() -> None:
    net = smooth_net(norm=True).train()
    rate = evaluation.accuracy(net, IMAGES, batch_size=7)
    assert net.training
    right = net.eval()(IMAGES.floats()).argmax(1) == IMAGES.labels
    assert rate == wilson(int(right.sum()) / 30, 30)


def test_any_images_will_do() -> None:
    net = smooth_net()
    pairs = (IMAGES.images, IMAGES.labels)
    assert evaluation.accuracy(net, pairs) == evaluation.accuracy(net, IMAGES)


def test_labels_beyond_the_logits_are_refused() -> None:
    labels = IMAGES.labels.clone()
    labels[4] = 7
    with pytest.raises(DataError, match=r"labels reach 7, but Sequential gives 3 logits: .*\[0, 2"):
        evaluation.accuracy(smooth_net(), (IMAGES.images, labels))


def test_far_below_the_published_accuracy_is_a_finding() -> None:
    (finding,) = evaluation.check_clean(wilson(0.16, 200), num_classes=1000, published=0.92)
    assert finding.line == (
        "clean accuracy below the published one: clean accuracy 16.0 % [11.6 %, 21.7 %] (n = 200) "
        "is 76 points below the published 92.0 %: is it fed as it was trained?"
    )


@pytest.mark.parametrize(
    ("rate", "published", "suspect"),
    [
        (0.83, 0.92, False),
        (0.82, 0.92, True),  # ten points, in numbers that floats do not have
        (0.72, 0.82, True),
        (0.99, 0.92, False),
        (0.30, None, False),
    ],
)
def test_ten_points_are_the_limit(rate: float, published: float | None, suspect: bool) -> None:
    found = evaluation.check_clean(wilson(rate, 200), num_classes=10, published=published)
    assert bool(found) == suspect


@pytest.mark.parametrize("right", range(0, 60, 3))
def test_chance_is_where_the_interval_reaches_it(right: int) -> None:
    rate = wilson(right / 60, 60)
    found = evaluation.check_clean(rate, num_classes=5, published=None)
    assert rate.low is not None
    assert [each.name for each in found] == ["clean accuracy at chance"] * (rate.low <= 0.2)
    assert all("is not above chance, 20.0 % of 5 classes" in each.seen for each in found)


def test_both_may_be_wrong_and_nothing_is_said_of_no_images() -> None:
    both = evaluation.check_clean(wilson(0.1, 50), num_classes=10, published=0.95)
    assert len({each.name for each in both}) == 2
    assert all("\n" not in each.line for each in both)
    assert evaluation.check_clean(wilson(0.0, 0), num_classes=10, published=0.95) == ()
