"""What the search watches: hard successes, random ones, siblings of a weight."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from robustkit.repair import RepairConfig, RepairSets, repair_sets
from robustkit.repair.search import choose_positives, siblings_of
from tests.robustkit.repair.nets import (
    chosen,
    mixed_net,
    mlp,
    noise,
    parameter,
)


@pytest.mark.parametrize("count", [1, 7, 20])
def test_the_hardest_successes_are_those_of_largest_squared_error(count: int) -> None:
    model, images = mlp(), noise(120)
    sets = repair_sets(model, images)
    assert int(sets.pos.sum()) > 20
    errors = []
    for i in torch.nonzero(sets.pos).flatten().tolist():
        softmax = model(images.floats(torch.tensor([i])))[0].detach().double().softmax(dim=0)
        hot = [float(k == images.labels[i]) for k in range(4)]
        errors.append((-sum((float(p) - h) ** 2 for p, h in zip(softmax, hot, strict=True)), i))
    config = RepairConfig(n_positives=count)
    found = choose_positives(model, images, sets, config, 0)
    assert found.tolist() == sorted(i for _, i in sorted(errors)[:count])


def test_equally_hard_successes_go_by_index() -> None:
    model, images = mlp(), noise(60)
    sets = repair_sets(model, images)
    right = torch.nonzero(sets.pos).flatten()
    doubled = images.subset(right[:6].repeat(2))
    sets = RepairSets(
        doubled.labels,
        torch.zeros(12, dtype=torch.bool),
        torch.ones(12, dtype=torch.bool),
        torch.zeros(12, dtype=torch.bool),
        torch.zeros(12, dtype=torch.bool),
    )
    three = choose_positives(model, doubled, sets, RepairConfig(n_positives=3), 0).tolist()
    hardest = choose_positives(model, doubled, sets, RepairConfig(n_positives=1), 0).tolist()
    assert hardest[0] < 6
    assert {hardest[0], hardest[0] + 6} < set(three)


def test_random_successes_are_drawn_anew_for_each_run() -> None:
    model, images = mlp(), noise(200)
    sets = repair_sets(model, images)
    right = set(torch.nonzero(sets.pos).flatten().tolist())
    config = RepairConfig(positives="random", n_positives=20)
    drawn = [choose_positives(model, images, sets, config, run).tolist() for run in range(3)]
    for each in drawn:
        assert each == sorted(set(each))
        assert len(each) == 20
        assert set(each) <= right
    assert len({tuple(each) for each in drawn}) == 3
    assert choose_positives(model, images, sets, config, 1).tolist() == drawn[1]
    other = replace(config, seed=5)
    assert choose_positives(model, images, sets, other, 1).tolist() != drawn[1]


@pytest.mark.parametrize("positives", ["all", "random", "hardest"])
def test_all_successes_are_watched_where_there_are_no_more(positives: str) -> None:
    model, images = mlp(), noise(30)
    sets = repair_sets(model, images)
    config = RepairConfig(positives=positives, n_positives=30)
    expected = torch.nonzero(sets.pos).flatten().tolist()
    assert choose_positives(model, images, sets, config, 0).tolist() == expected


def test_siblings_are_all_weights_of_the_layer() -> None:
    model = mixed_net()
    found = siblings_of(model, chosen(_2=[0, 50], _7=[3]))
    for place, layer in enumerate(["2", "2", "7"]):
        numbers = [float(each) for each in parameter(model, layer).detach().flatten()]
        mean = sum(numbers) / len(numbers)
        std = (sum((each - mean) ** 2 for each in numbers) / len(numbers)) ** 0.5
        assert float(found.mean[place]) == pytest.approx(mean, abs=1e-6)
        assert float(found.std[place]) == pytest.approx(std, rel=1e-5)
        extent = max(numbers) - min(numbers)
        assert float(found.extent[place]) == pytest.approx(extent, rel=1e-6)
