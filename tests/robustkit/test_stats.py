from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from robustkit.stats import (
    Outcomes,
    Rate,
    matched_gap,
    mcnemar,
    mean_over_both,
    mean_over_trainings,
    paired_gap,
    pooled_rate,
    wilson,
)


def bounds(rate: Rate) -> list[float | None]:
    return [rate.low, rate.high]


@given(st.integers(1, 500), st.floats(0, 1))
def test_wilson_is_scipys(n: int, share: float) -> None:
    hits = round(share * n)
    made = wilson(hits / n, n)
    expected = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    assert made.n == n
    assert made.low == pytest.approx(expected.low, abs=1e-9)
    assert made.high == pytest.approx(expected.high, abs=1e-9)


def test_wilson_gives_newcombes_published_figures() -> None:
    # Newcombe 1998, table I, method 3: 81/263 and 0/20.
    assert bounds(wilson(81 / 263, 263)) == pytest.approx([0.2553, 0.3662], abs=5e-5)
    assert bounds(wilson(0.0, 20)) == pytest.approx([0.0, 0.1611], abs=5e-5)


def test_no_images_no_rate() -> None:
    nothing = Rate(value=None, n=0, low=None, high=None)
    assert wilson(0.0, 0) == nothing
    assert pooled_rate(np.zeros((2, 3), bool), np.zeros((2, 3), bool)) == nothing
    gap = paired_gap(np.zeros((1, 0), bool), np.zeros((1, 0), bool), seed=0)
    assert (gap.value, gap.low, gap.high, gap.p_value, gap.n) == (None, None, None, None, 0)


def test_a_pooled_rate_counts_images_not_trainings() -> None:
    hits = np.array([[1, 0, 0, 1], [1, 1, 0, 1]], bool)
    among = np.array([[1, 1, 0, 0], [1, 1, 1, 1]], bool)
    made = pooled_rate(hits, among)
    assert made == wilson(4 / 6, 3)


def test_a_pooled_rate_of_one_image_in_one_of_many_trainings_is_a_rate() -> None:
    among = np.zeros((5, 4), bool)
    among[0, 0] = True
    made = pooled_rate(among, among)
    assert (made.value, made.n) == (1.0, 1)


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 5))
def test_mcnemar_is_the_exact_binomial_test_on_discordant_pairs(b: int, c: int, both: int) -> None:
    first = np.array([True] * b + [False] * c + [True] * both, bool)
    second = np.array([False] * b + [True] * c + [True] * both, bool)
    tail = sum(math.comb(b + c, k) for k in range(min(b, c) + 1)) / 2 ** (b + c)
    assert mcnemar(first, second) == pytest.approx(min(1.0, 2 * tail))
    assert mcnemar(first, second) == mcnemar(second, first)


def test_a_gap_is_in_points_and_its_p_value_that_of_the_worst_pair() -> None:
    first = np.array([[1] * 8 + [0] * 2, [1] * 4 + [0] * 6], bool)
    second = np.zeros((1, 10), bool)
    gap = paired_gap(first, second, seed=0, draws=200)
    assert gap.value == pytest.approx(60.0)
    assert gap.p_value == mcnemar(first[1], second[0])
    assert gap.low is not None
    assert gap.high is not None
    assert gap.low < 60 < gap.high
    assert gap == paired_gap(first, second, seed=0, draws=200)
    mirrored = paired_gap(second, first, seed=0, draws=200)
    assert mirrored.value == pytest.approx(-60.0)


def test_the_bootstrap_is_paired() -> None:
    # Two nets that err on the same images but for one: unpaired, the interval would span 0.
    first = np.arange(400)[None] < 200
    second = np.arange(400)[None] < 180
    gap = paired_gap(first, second, seed=0, draws=500)
    assert gap.low is not None
    assert gap.low > 2


@pytest.mark.parametrize("spread", [0.0, 0.08])
def test_the_interval_covers_the_true_gap_about_as_often_as_it_says(spread: float) -> None:
    """Images of varied difficulty, five trainings a group, whose own rates vary by `spread`."""
    rng = np.random.default_rng(0)
    truth = 100 * (expected_rate(0.6, spread) - expected_rate(0.4, spread))
    covered = 0
    for trial in range(100):
        hardness = rng.random(120)
        groups = []
        for threshold in (0.6, 0.4):
            own = threshold + spread * rng.standard_normal((5, 1))
            groups.append(hardness + 0.2 * rng.standard_normal((5, 120)) < own)
        gap = paired_gap(groups[0], groups[1], seed=trial, draws=120)
        assert gap.low is not None
        assert gap.high is not None
        covered += gap.low <= truth <= gap.high
    # Percentile bootstrap over five trainings is a little too narrow; binomial noise is 0.03.
    assert 0.83 <= covered / 100 < 1


def expected_rate(threshold: float, spread: float) -> float:
    rng = np.random.default_rng(1)
    noise = math.hypot(0.2, spread) * rng.standard_normal(200_000)
    return float((rng.random(200_000) + noise < threshold).mean())


def test_a_matched_gap_where_all_are_right_is_the_paired_gap() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random((3, 400)) < 0.5, rng.random((2, 400)) < 0.2
    paired = paired_gap(first, second, seed=0, draws=4000)
    everything = [Outcomes(np.ones_like(each), each) for each in (first, second)]
    matched = matched_gap(*everything, among=np.ones(400, bool), seed=1, draws=4000)
    assert matched.gap.value == pytest.approx(paired.value)
    assert matched.gap.n == 400
    assert matched.gap.p_value == pytest.approx(paired.p_value)
    assert matched.gap.low == pytest.approx(paired.low, abs=1)
    assert matched.gap.high == pytest.approx(paired.high, abs=1)
    assert matched.first.value == pytest.approx(first.mean())
    assert matched.second.value == pytest.approx(second.mean())


def test_a_matched_gap_covers_the_truth() -> None:
    """Trainings differ in rate by 5 points (SD), images are right by chance: 95 % of intervals."""
    rng, hits = np.random.default_rng(2), 0
    for trial in range(60):
        groups = []
        for rate in (0.5, 0.3):
            rates = np.clip(rate + 0.05 * rng.standard_normal(4), 0, 1)
            groups.append(
                Outcomes(rng.random((4, 300)) < 0.8, rng.random((4, 300)) < rates[:, None])
            )
        gap = matched_gap(*groups, among=np.ones(300, bool), seed=trial, draws=300).gap
        assert gap.low is not None
        assert gap.high is not None
        hits += gap.low <= 20 <= gap.high
    assert hits >= 50


def test_pairs_without_a_common_image_are_left_out_of_a_matched_gap() -> None:
    right = np.array([[True, True, False, False], [False, False, True, True]])
    first = Outcomes(right[:1], np.array([[True, False, True, True]]))
    second = Outcomes(right, np.zeros((2, 4), bool))
    matched = matched_gap(first, second, among=np.ones(4, bool), seed=0)
    assert (matched.gap.value, matched.gap.n) == (50.0, 2)
    nothing = matched_gap(first, Outcomes(right[1:], right[1:]), among=np.ones(4, bool), seed=0)
    assert (nothing.gap.value, nothing.gap.n, nothing.first.value) == (None, 0, None)
    shares = Outcomes(right[:1], np.array([[0.5, 0.25, 1.0, 1.0]]))
    several = matched_gap(shares, second, among=np.ones(4, bool), seed=0).gap
    assert several.value == 37.5
    assert several.p_value is not None
    assert 1 / 2000 <= several.p_value < 1 / 1000  # no draw at zero or below
    equal = matched_gap(shares, shares, among=np.ones(4, bool), seed=0).gap
    assert (equal.value, equal.p_value) == (0.0, 1.0)


@pytest.mark.parametrize(("searches", "trainings"), [(1.0, 1.0), (1.0, 0.0), (0.2, 1.0)])
def test_an_interval_over_searches_and_trainings_covers_both(
    searches: float, trainings: float
) -> None:
    rng = np.random.default_rng(0)
    inside, runs = 0, 600
    for _ in range(runs):
        rows = searches * rng.standard_normal((5, 1))
        columns = trainings * rng.standard_normal((1, 3))
        mean = mean_over_both((rows + columns + 0.3 * rng.standard_normal((5, 3))).tolist())
        assert mean.low is not None
        assert mean.high is not None
        inside += mean.low <= 0 <= mean.high
    assert inside >= 0.93 * runs


def test_an_interval_over_both_with_what_is_missing() -> None:
    rows: list[list[float | None]] = [[1.0, None], [2.0, 4.0], [None, None]]
    assert mean_over_both(rows).n == 2
    assert mean_over_both([[1.0], [2.0], [4.0]]) == mean_over_trainings([1.0, 2.0, 4.0])
    assert mean_over_both([[1.0, 2.0]]).low is None
    empty: list[list[list[float | None]]] = [[], [[None]], [[], []]]
    assert [mean_over_both(nothing).value for nothing in empty] == [None] * 3
    same = mean_over_both([[2.0, 2.0], [2.0, 2.0]])
    assert (same.low, same.value, same.high) == (2.0, 2.0, 2.0)
