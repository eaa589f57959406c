"""Ranks that are left open, against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import ttest_1samp

from robustkit.evaluation.ranking import p_of_no_difference, ranked


def hits(count: int, n: int = 200, seed: int = 0) -> NDArray[np.float64]:
    found = np.zeros(n)
    found[np.random.default_rng(seed).permutation(n)[:count]] = 1
    return found


def test_who_cannot_be_told_apart_shares_ranks() -> None:
    outcomes = {"best": hits(180, seed=1), "a": hits(100, seed=2), "b": hits(104, seed=3)}
    found = ranked(outcomes)
    assert (found["best"].best, found["best"].worst) == (1, 1)
    assert (found["a"].best, found["a"].worst) == (found["b"].best, found["b"].worst) == (2, 3)
    assert found["a"].score.value == 0.5
    assert found["a"].score.low is not None
    assert 0.4 < found["a"].score.low < 0.5


def test_pairs_are_tested_image_by_image() -> None:
    base = hits(100, seed=4)
    ahead = base.copy()
    ahead[np.flatnonzero(base == 0)[:8]] = 1  # eight more, and no one less
    assert ranked({"ahead": ahead, "behind": base})["behind"].best == 2
    # The same totals from other images say nothing.
    assert ranked({"a": hits(108, seed=5), "b": hits(100, seed=6)})["b"].best == 1


def test_many_pairs_need_clearer_differences() -> None:
    base = hits(100, seed=7)
    ahead = base.copy()
    ahead[np.flatnonzero(base == 0)[:6]] = 1
    difference = ahead - base
    p_value = p_of_no_difference(difference)
    assert p_value == pytest.approx(ttest_1samp(difference, 0).pvalue)
    assert 0.01 < p_value < 0.05
    assert ranked({"ahead": ahead, "base": base})["base"].best == 2
    crowd = {f"other {seed}": hits(100, seed=10 + seed) for seed in range(8)}
    assert ranked({"ahead": ahead, "base": base, **crowd})["base"].best == 1


def test_no_difference_at_all_and_a_constant_one() -> None:
    same = hits(50)
    assert p_of_no_difference(same - same) == 1.0
    assert p_of_no_difference(np.ones(20)) == pytest.approx(2.0**-19)
    assert p_of_no_difference(np.ones(2)) == 0.5
    assert p_of_no_difference(np.ones(1)) == 1.0
    found = ranked({"a": same, "b": same})
    assert (found["a"].best, found["a"].worst) == (1, 2)
    assert ranked({"alone": same})["alone"].worst == 1
