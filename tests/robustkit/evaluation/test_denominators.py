"""The three denominators of a transfer rate, counted image by image; no net is needed for that.

`test_transfer` is about what nets say of adversarials; here their answers are drawn.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from robustkit.evaluation.transferability import TransferMatrix
from robustkit.stats import Rate

# Of each image: what a, b and the source s get right; whether s is fooled; whether a and b err on
# the adversarial; whether a takes it for the label steered to.
rows = st.lists(st.tuples(*[st.booleans()] * 7), min_size=1, max_size=30)


def matrix(images: list[tuple[bool, ...]]) -> TransferMatrix:
    a, b, s, fooled, misled_a, misled_b, reached = (
        np.array(each) for each in zip(*images, strict=True)
    )
    return TransferMatrix(
        ("s",),
        ("a", "b"),
        {"a": a, "b": b, "s": s},
        {"s": fooled},
        {("s", "a"): misled_a, ("s", "b"): misled_b},
        {("s", "a"): reached},
        {"s": "key"},
    )


def counted(rate: Rate, hits: int, n: int) -> None:
    assert rate.n == n
    if n == 0:
        assert (rate.value, rate.low, rate.high) == (None, None, None)
        return
    interval = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    assert rate.value == pytest.approx(hits / n)
    assert (rate.low, rate.high) == pytest.approx((interval.low, interval.high), abs=1e-9)


@given(rows)
def test_every_rate_is_a_count_over_its_own_images(images: list[tuple[bool, ...]]) -> None:
    made = matrix(images)
    common = [row for row in images if row[0] and row[1] and row[2]]
    assert made.common.tolist() == [all(row[:3]) for row in images]
    for target, place in (("a", 4), ("b", 5)):
        rates = made.rates("s", target)
        fooling = [row for row in common if row[3]]
        counted(rates["headline"], sum(row[place] for row in common), len(common))
        counted(rates["fooling"], sum(row[place] for row in fooling), len(fooling))
        counted(rates["all"], sum(row[place] for row in images), len(images))
    counted(made.hit_rate("s", "a"), sum(row[6] for row in common), len(common))


@given(rows)
def test_two_targets_are_compared_where_both_are_right(images: list[tuple[bool, ...]]) -> None:
    common = [row for row in images if row[0] and row[1] and row[2]]
    only_a = sum(row[4] and not row[5] for row in common)
    only_b = sum(row[5] and not row[4] for row in common)
    ways = sum(math.comb(only_a + only_b, k) for k in range(min(only_a, only_b) + 1))
    expected = min(1.0, 2 * ways / 2 ** (only_a + only_b))
    assert matrix(images).p_value("s", "a", "b") == pytest.approx(expected)
