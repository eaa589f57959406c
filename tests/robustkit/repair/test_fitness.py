"""What candidates are worth, in numbers worked out by hand; how two candidates compare."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from robustkit.errors import RepairError
from robustkit.repair import FITNESS
from robustkit.repair.config import BUDGET
from robustkit.repair.fitness import Tally, tally


def made(
    patched: list[float],
    intact: list[float],
    loss_neg: list[float],
    loss_pos: list[float],
    *,
    n_neg: int = 4,
    n_pos: int = 10,
    before: tuple[float, float] = (2.0, 0.1),
) -> Tally:
    return Tally(
        n_neg,
        n_pos,
        torch.tensor(patched, dtype=torch.float64),
        torch.tensor(intact, dtype=torch.float64),
        torch.tensor(loss_neg, dtype=torch.float64),
        torch.tensor(loss_pos, dtype=torch.float64),
        *before,
        budget=BUDGET,
    )


def worth(name: str, of: Tally) -> list[float]:
    fitness = FITNESS.find(name)(of)
    assert fitness.dtype == torch.float64
    values: list[float] = fitness.tolist()
    return values


# 4 failures, 10 successes; the unrepaired model, a repair that breaks two, one without losses.
THREE = made([0, 2, 4], [10, 8, 10], [2.0, 1.0, 0.0], [0.1, 0.2, 0.0])


def test_arachnes_fitness_is_its_equation() -> None:
    # (0+1)/(2+1) + (10+1)/(0.1+1), (2+1)/(1+1) + (8+1)/(0.2+1), (4+1)/1 + (10+1)/1
    assert worth("arachne", THREE) == pytest.approx([1 / 3 + 10, 1.5 + 7.5, 16.0])


def test_the_history_methods_fitness_is_its_equation() -> None:
    # (0/4)/1 + (10/10)/1 and (2/4)/(1/2) + (8/10)/(0.2/0.1)
    assert worth("history", THREE)[:2] == pytest.approx([1.0, 1.0 + 0.4])
    # Losses of nothing at all are worth much, but a number.
    assert 1e9 < worth("history", THREE)[2] < math.inf


def test_the_history_methods_fitness_once_more() -> None:
    of = made([1], [3], [0.3], [0.9], n_neg=5, n_pos=4, before=(1.2, 0.6))
    # (1/5)/(0.3/1.2) + (3/4)/(0.9/0.6)
    assert worth("history", of) == pytest.approx([0.8 + 0.5])


def test_accuracy_counts_what_is_right() -> None:
    # Mean losses of all 14 images: (4·2 + 10·0.1)/14 = 9/14 and (4·1 + 10·0.2)/14 = 6/14.
    expected = [10 + 14 / 23, 10 + 14 / 20, 14 + 1]
    assert worth("accuracy", THREE) == pytest.approx(expected)


def test_guarded_charges_what_breaks_beyond_the_budget() -> None:
    of = made([300, 300], [995, 999], [1.0, 1.0], [0.5, 0.5], n_neg=400, n_pos=1000)
    # Two of 1000 may break: the first candidate breaks three more.
    assert BUDGET == 0.002
    assert worth("guarded", of) == pytest.approx([300 - 401 * 3 + 0.4, 300 + 0.4])


@given(
    n_neg=st.integers(1, 5000),
    n_pos=st.integers(0, 5000),
    losses=st.lists(st.floats(0, 100), min_size=2, max_size=2),
)
def test_a_model_that_is_not_repaired_is_worth_exactly_one(
    n_neg: int, n_pos: int, losses: list[float]
) -> None:
    of = made(
        [0],
        [n_pos],
        losses[:1],
        losses[1:],
        n_neg=n_neg,
        n_pos=n_pos,
        before=(losses[0], losses[1]),
    )
    assert worth("history", of) == [float(n_pos > 0)]


@given(
    counts=st.tuples(st.integers(1, 40), st.integers(1, 400)),
    share=st.floats(0, 1),
    losses=st.lists(st.floats(0.01, 20), min_size=4, max_size=4),
)
@pytest.mark.parametrize("name", ["history", "arachne", "accuracy", "guarded"])
def test_better_in_every_way_is_fitter(
    name: str, counts: tuple[int, int], share: float, losses: list[float]
) -> None:
    n_neg, n_pos = counts
    intact = math.floor(share * (n_pos - 1))
    patched = math.floor(share * (n_neg - 1))
    worse, better = sorted(losses[:2], reverse=True), sorted(losses[2:], reverse=True)
    of = made(
        [patched, patched + 1, patched, patched + 1],
        [intact, intact, intact + 1, intact + 1],
        [worse[0], worse[0], worse[0], worse[1]],
        [better[0], better[0], better[0], better[1]],
        n_neg=n_neg,
        n_pos=n_pos,
    )
    found = worth(name, of)
    assert found[0] < found[1] <= found[3]
    assert found[0] < found[2] <= found[3]


@given(
    first=st.tuples(st.integers(0, 30), st.integers(0, 300)),
    second=st.tuples(st.integers(0, 30), st.integers(0, 300)),
    losses=st.lists(st.floats(0.01, 20), min_size=4, max_size=4),
)
def test_more_images_that_are_right_are_more_accurate_whatever_the_losses(
    first: tuple[int, int], second: tuple[int, int], losses: list[float]
) -> None:
    of = made(
        [first[0], second[0]], [first[1], second[1]], losses[:2], losses[2:], n_neg=30, n_pos=300
    )
    found = worth("accuracy", of)
    if sum(first) != sum(second):
        assert (found[0] > found[1]) == (sum(first) > sum(second))
    else:
        mean = [30 * losses[i] + 300 * losses[2 + i] for i in range(2)]
        if not math.isclose(*mean):
            assert (found[0] > found[1]) == (mean[0] < mean[1])


@given(
    patched=st.tuples(st.integers(0, 30), st.integers(0, 30)),
    broken=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    losses=st.lists(st.floats(0.01, 20), min_size=4, max_size=4),
)
def test_within_the_budget_what_is_patched_counts_and_then_the_loss(
    patched: tuple[int, int], broken: tuple[int, int], losses: list[float]
) -> None:
    """Of 2000 successes four may break."""
    intact = [2000 - each for each in broken]
    of = made(list(patched), list(intact), losses[:2], losses[2:], n_neg=30, n_pos=2000)
    found = worth("guarded", of)
    if patched[0] != patched[1]:
        assert (found[0] > found[1]) == (patched[0] > patched[1])
    else:
        sums = [losses[i] + losses[2 + i] for i in range(2)]
        if not math.isclose(*sums):
            assert (found[0] > found[1]) == (sums[0] < sums[1])


@given(
    n_pos=st.integers(1, 3000),
    n_neg=st.integers(1, 100),
    broken=st.integers(1, 50),
    share=st.floats(0, 1),
)
def test_a_candidate_within_the_budget_beats_one_beyond_it(
    n_pos: int, n_neg: int, broken: int, share: float
) -> None:
    """Even one that patches nothing beats one that patches all."""
    allowed = math.floor(BUDGET * n_pos)
    beyond = min(allowed + broken, n_pos)
    within = math.floor(share * allowed)
    of = made(
        [0, n_neg],
        [n_pos - within, n_pos - beyond],
        [5.0, 0.1],
        [5.0, 0.1],
        n_neg=n_neg,
        n_pos=n_pos,
    )
    found = worth("guarded", of)
    assert found[0] > found[1]


def test_a_candidate_far_beyond_the_budget_loses_to_one_that_does_nothing() -> None:
    of = made([0, 100], [2000, 1994], [5.0, 0.1], [5.0, 0.1], n_neg=100, n_pos=2000)
    found = worth("guarded", of)
    assert found[0] > found[1]


@pytest.mark.parametrize("name", ["history", "arachne", "accuracy", "guarded"])
def test_without_successes_fitness_is_a_number(name: str) -> None:
    right = torch.tensor([[True, False], [True, True]])
    loss = torch.tensor([[0.5, 1.0], [0.2, 0.4]])
    neg, pos = torch.ones(2, dtype=torch.bool), torch.zeros(2, dtype=torch.bool)
    before = (float(loss[0, neg].mean()), 0.0)
    fitness = FITNESS.find(name)(tally(right, loss, neg, pos, before))
    assert bool(fitness.isfinite().all())
    assert float(fitness[1]) > float(fitness[0])


def test_an_unknown_fitness_is_an_error() -> None:
    with pytest.raises(RepairError, match="unknown fitness 'histroy'; did you mean 'history'"):
        FITNESS.find("histroy")


@given(st.integers(1, 5), st.lists(st.sampled_from(["neg", "pos", "none"]), min_size=2), st.data())
def test_a_tally_counts_image_by_image(count: int, kinds: list[str], data: st.DataObject) -> None:
    kinds = ["neg", "pos", *kinds]
    n = len(kinds)
    seed = data.draw(st.integers(0, 1000))
    generator = torch.Generator().manual_seed(seed)
    right = torch.rand(count, n, generator=generator) < 0.5
    loss = torch.rand(count, n, generator=generator)
    masks = {name: torch.tensor([kind == name for kind in kinds]) for name in ("neg", "pos")}
    of = tally(right, loss, masks["neg"], masks["pos"], (0.5, 0.25))
    assert (of.n_neg, of.n_pos) == (kinds.count("neg"), kinds.count("pos"))
    assert (of.before_neg, of.before_pos) == (0.5, 0.25)
    counted: dict[str, Tensor] = {"neg": of.patched, "pos": of.intact}
    means = {"neg": of.loss_neg, "pos": of.loss_pos}
    for name in ("neg", "pos"):
        for p in range(count):
            rows = [i for i in range(n) if kinds[i] == name]
            assert float(counted[name][p]) == sum(bool(right[p, i]) for i in rows)
            mean = sum(float(loss[p, i]) for i in rows) / len(rows)
            assert float(means[name][p]) == pytest.approx(mean)
