"""Ranks that are left open, against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest, ttest_1samp

from robustkit.evaluation.ranking import p_of_no_difference, ranked
from robustkit.stats import wilson


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
    p_value = p_of_no_difference(ahead - base)
    assert p_value == 2.0**-5  # McNemar's exact p of six against none
    assert ranked({"ahead": ahead, "base": base})["base"].best == 2
    crowd = {f"other {seed}": hits(100, seed=10 + seed) for seed in range(8)}
    assert ranked({"ahead": ahead, "base": base, **crowd})["base"].best == 1


def test_p_is_that_of_students_test_where_images_differ_both_ways() -> None:
    difference = hits(100, seed=20) - hits(70, seed=21)
    p_value = p_of_no_difference(difference)
    assert p_value == pytest.approx(ttest_1samp(difference, 0).pvalue)
    assert p_value < 0.01


@pytest.mark.parametrize(
    "difference",
    [[1.0] * 4 + [0.0] * 196, [1.0, 1.0, 0.5], [1.0] * 19 + [0.99], [1 / 3] * 11],
)
def test_few_images_on_one_side_are_no_more_evidence_than_their_signs(
    difference: list[float],
) -> None:
    differing = np.count_nonzero(difference)
    exact = binomtest(differing, differing).pvalue
    assert p_of_no_difference(np.array(difference)) == pytest.approx(exact)


@pytest.mark.parametrize("value", [0.0, 1 / 3, 1.0])
def test_no_width_is_claimed_where_all_images_agree(value: float) -> None:
    score = ranked({"all alike": np.full(11, value)})["all alike"].score
    cell = wilson(value, 11)
    assert score.value == pytest.approx(value)
    assert score.n == 11
    assert score.low == pytest.approx(cell.low)
    assert score.high == pytest.approx(cell.high)


def holm_by_hand(outcomes: dict[str, NDArray[np.float64]]) -> dict[str, tuple[int, int]]:
    """The best and the worst rank, from adjusted p-values, by their definition."""
    names = list(outcomes)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    p = {(a, b): p_of_no_difference(outcomes[a] - outcomes[b]) for a, b in pairs}
    ascending = sorted(pairs, key=lambda pair: p[pair])
    adjusted, highest = {}, 0.0
    for number, pair in enumerate(ascending):
        highest = max(highest, (len(pairs) - number) * p[pair])
        adjusted[pair] = highest
    real = [pair for pair in pairs if adjusted[pair] <= 0.05]
    wins = [(a, b) if outcomes[a].mean() > outcomes[b].mean() else (b, a) for a, b in real]
    return {
        name: (
            1 + sum(loser == name for _, loser in wins),
            len(names) - sum(winner == name for winner, _ in wins),
        )
        for name in names
    }


@pytest.mark.parametrize("seed", range(8))
def test_ranks_are_those_of_adjusted_p_values(seed: int) -> None:
    generator = np.random.default_rng(seed)
    outcomes = {
        str(number): generator.binomial(3, generator.uniform(0.3, 0.7), size=80) / 3
        for number in range(7)
    }
    found = {name: (each.best, each.worst) for name, each in ranked(outcomes).items()}
    assert found == holm_by_hand(outcomes)
    assert len(set(found.values())) > 1


def test_no_difference_at_all_and_a_constant_one() -> None:
    same = hits(50)
    assert p_of_no_difference(same - same) == 1.0
    assert p_of_no_difference(np.ones(20)) == pytest.approx(2.0**-19)
    assert p_of_no_difference(np.ones(2)) == 0.5
    assert p_of_no_difference(np.ones(1)) == 1.0
    found = ranked({"a": same, "b": same})
    assert (found["a"].best, found["a"].worst) == (1, 2)
    assert ranked({"alone": same})["alone"].worst == 1
