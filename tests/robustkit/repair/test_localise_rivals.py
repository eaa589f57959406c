"""Localisation as Arachne has it, and at random."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from robustkit.errors import RepairError
from robustkit.repair import ARACHNE, RepairConfig, impacts, localise, repairable
from tests.robustkit.repair.cases import (
    NAMED,
    SIZES,
    Case,
    Weight,
    at,
    found,
    make_case,
    sets_of,
    slow_front,
    slow_top,
    weights,
)
from tests.robustkit.repair.nets import parameter, seeded, wrap


def slow_arachne(case: Case, layers: tuple[str, ...], count: int, ranking: str) -> set[Weight]:
    made = impacts(case.model, at(case.images, case.sets.neg), repairable(case.model, layers))
    pool = sorted(slow_top(made.backward, count, ranking))
    points = [
        (float(made.backward[name].flatten()[i]), float(made.forward[name].flatten()[i]))
        for name, i in pool
    ]
    return {weight for weight, on in zip(pool, slow_front(points), strict=True) if on}


@pytest.mark.parametrize("ranking", ["pooled", "layer"])
@pytest.mark.parametrize("layers", NAMED)
@pytest.mark.parametrize("count", [5, 90])
def test_arachne_is_the_front_of_the_pool(count: int, layers: str, ranking: str) -> None:
    case = make_case()
    config = RepairConfig(
        localisation="arachne", layers=(layers,), top=count, ranking=ranking, fitness="arachne"
    )
    made = found(case, config)
    assert weights(made.selection) == slow_arachne(case, (layers,), count, ranking)
    assert made.sizes["chosen"] == len(made.selection)
    assert made.top == min(count, sum(SIZES[name] for name in NAMED[layers]))


def test_arachne_takes_equal_weights_together() -> None:
    """Two units alike in all: their weights have equal impacts, to the bit."""
    net = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 2), nn.ReLU(), nn.Linear(2, 4)))
    case = make_case()
    case.model = wrap(net)
    first, last = (parameter(case.model, name) for name in ("1", "3"))
    with torch.no_grad():
        parameter(case.model, "1", "bias").fill_(0.5)
        first[1], last[:, 1] = first[0], last[:, 0]
    config = RepairConfig(localisation="arachne", layers=("1",), top=72)
    made = weights(found(case, config).selection)
    assert made == slow_arachne(case, ("1",), 72, "pooled")
    assert 0 < len(made) < 72
    assert made == {(name, (i + 36) % 72) for name, i in made}


def test_arachne_looks_at_twenty_weights_per_failure() -> None:
    case = make_case(neg=range(3))
    config = replace(ARACHNE, layers=("5",))
    made = found(case, config)
    assert (made.top, made.sizes["backward"]) == (60, 60)
    assert weights(made.selection) == slow_arachne(case, ("5",), 60, "pooled")
    assert found(case, replace(config, per_image=5)).top == 15
    assert found(case, ARACHNE).top == SIZES["7"]


def test_arachne_looks_at_failures_alone_and_needs_no_history() -> None:
    case = make_case()
    config = RepairConfig(localisation="arachne", top=60)
    expected = weights(found(case, config).selection)
    case.sets = sets_of(range(0), range(0))
    made = localise(case.model, case.images, case.sets, config, None)
    assert weights(made.selection) == expected


def test_arachne_needs_a_weight_with_an_impact() -> None:
    net = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.ReLU(), nn.Linear(4, 4)))
    case = make_case()
    case.model = wrap(net)
    with torch.no_grad():
        parameter(case.model, "1", "bias").fill_(-1e6)  # no unit is ever active
    with pytest.raises(RepairError, match="no weight has any impact on the failures"):
        found(case, RepairConfig(localisation="arachne", layers=("1",)))


@pytest.mark.parametrize("layers", NAMED)
@pytest.mark.parametrize("count", [1, 20, 10_000])
def test_random_takes_that_many(layers: str, count: int) -> None:
    case = make_case()
    config = RepairConfig(localisation="random", layers=(layers,), top=count, seed=3)
    made = localise(case.model, case.images, case.sets, config)
    candidates = sum(SIZES[name] for name in NAMED[layers])
    chosen = weights(made.selection)
    assert len(chosen) == made.top == made.sizes["chosen"] == min(count, candidates)
    assert all(name in NAMED[layers] and 0 <= i < SIZES[name] for name, i in chosen)
    again = localise(case.model, case.images, case.sets, config)
    assert weights(again.selection) == chosen


def test_random_depends_on_its_seed_and_on_nothing_else() -> None:
    case, other = make_case(), make_case(deg=range(2), seed=1)

    def drawn(which: Case, seed: int) -> set[Weight]:
        config = RepairConfig(localisation="random", layers=("both",), top=50, seed=seed)
        state = torch.get_rng_state()
        torch.rand(1)
        chosen = weights(found(which, config).selection)
        torch.set_rng_state(state)
        return chosen

    assert drawn(case, 1) == drawn(other, 1)
    assert drawn(case, 1) != drawn(case, 2)


def test_random_takes_every_weight_as_often_as_any_other() -> None:
    case = make_case()
    drawn = [0] * SIZES["7"]
    for seed in range(300):
        config = RepairConfig(localisation="random", layers=("last",), top=7, seed=seed)
        for _, index in weights(found(case, config).selection):
            drawn[index] += 1
    # Binomial(300, 1/4) has a standard deviation of 7.5.
    assert sum(drawn) == 300 * 7
    assert all(75 - 34 < count < 75 + 34 for count in drawn)
