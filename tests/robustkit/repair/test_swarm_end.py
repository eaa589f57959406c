"""When swarms stop, and that they move alone and together alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from robustkit.repair import SwarmConfig, Swarms
from robustkit.repair.swarm import step
from tests.robustkit.repair.nets import same_tensors
from tests.robustkit.repair.swarms import (
    DESIGNS,
    DIMENSIONS,
    constant,
    hill,
    run,
    siblings,
    started,
)


@pytest.mark.parametrize("patience", [1, 3, 8])
def test_a_swarm_stops_when_its_patience_ends(patience: int) -> None:
    config = SwarmConfig(particles=3, patience=patience, iterations=100)
    flat = torch.zeros(1, 3, dtype=torch.float64)
    states = run(started(config, [0]), constant(flat), config)
    # The first evaluation is better than nothing.
    assert [int(each.stagnant) for each in states[1:]] == list(range(patience + 1))
    assert [int(each.iteration) for each in states] == list(range(patience + 2))


def test_only_a_better_leader_renews_the_patience() -> None:
    config = SwarmConfig(particles=2, patience=4)
    rows = [[0.0, 5.0], [1.0, 5.0], [2.0, 4.0], [9.0, 0.0], [9.0, 0.0], [0.0, 8.9], [9.1, 0.0]]
    swarms, stagnant = started(config, [0]), []
    for row in rows:
        swarms = step(swarms, constant(torch.tensor([row]).double()), siblings(), config)
        stagnant.append(int(swarms.stagnant))
    assert stagnant == [0, 1, 2, 0, 1, 2, 0]
    assert not bool(swarms.done)


def test_a_swarm_stops_after_its_iterations() -> None:
    config = SwarmConfig(particles=4, patience=50, iterations=6)
    states = run(started(config, [0]), hill, config)
    assert int(states[-1].iteration) == len(states) - 1 == 6
    assert [bool(each.done) for each in states] == [False] * 6 + [True]


def ending(places: Tensor, which: Sequence[int]) -> Tensor:
    """As `hill`, but swarm 1 finds nothing better after its first evaluation."""
    fitness = hill(places, which)
    for row, number in enumerate(which):
        if number == 1:
            fitness[row] = 7.0
    return fitness


@pytest.mark.parametrize("topology", ["global", "ring"])
def test_swarms_move_alone_and_together_alike(topology: str) -> None:
    config = SwarmConfig(particles=9, patience=5, iterations=25, topology=topology)
    seeds = [11, 12, 13]
    together = run(started(config, seeds), ending, config)
    lengths = together[-1].iteration.tolist()
    assert lengths[1] == 6
    assert min(lengths[0], lengths[2]) > 10
    for number, seed in enumerate(seeds):

        def alone(places: Tensor, which: Sequence[int], number: int = number) -> Tensor:
            assert list(which) == [0]
            return ending(places, [number])

        states = run(started(config, [seed]), alone, config)
        assert len(states) == lengths[number] + 1
        for moment, state in enumerate(together):
            expected = states[min(moment, len(states) - 1)]
            mine = {name: each[number : number + 1] for name, each in state.tensors().items()}
            assert same_tensors(mine, expected.tensors())


def test_a_swarm_that_is_done_is_not_evaluated() -> None:
    config = SwarmConfig(particles=3, patience=2, iterations=20)
    asked: list[list[int]] = []

    def evaluate(places: Tensor, which: Sequence[int]) -> Tensor:
        asked.append(list(which))
        assert places.shape == (len(which), 3, DIMENSIONS)
        return ending(places, which)

    run(started(config, [1, 2, 3]), evaluate, config)
    assert asked[:3] == [[0, 1, 2]] * 3
    assert all(1 not in each for each in asked[3:])
    assert len(asked) > 3


def test_a_step_leaves_the_swarms_before_it_as_they_were() -> None:
    config = SwarmConfig(particles=4, patience=2)
    swarms = started(config, [1, 2, 3])
    for _ in range(6):
        kept = {name: each.clone() for name, each in swarms.tensors().items()}
        after = step(swarms, ending, siblings(), config)
        assert same_tensors(kept, swarms.tensors())
        swarms = after
        if bool(swarms.done.all()):
            break


@pytest.mark.parametrize("name", sorted(DESIGNS))
@pytest.mark.parametrize("stop", [1, 4, 9])
def test_a_resumed_search_is_one_that_was_never_stopped(name: str, stop: int) -> None:
    config = replace(DESIGNS[name], particles=7, patience=6, iterations=12, topology="ring")
    states = run(started(config, [1, 2, 3]), ending, config)
    kept = load(save({key: each.clone() for key, each in states[stop].tensors().items()}))
    again = run(Swarms(**kept), ending, config)
    assert len(again) == len(states) - stop
    for first, second in zip(states[stop:], again, strict=True):
        assert same_tensors(first.tensors(), second.tensors())


def test_what_is_not_a_number_never_wins() -> None:
    config = SwarmConfig(particles=12, patience=30, iterations=30)
    edge = float(siblings().mean[0])

    def cliff(places: Tensor, which: Sequence[int]) -> Tensor:
        """Beyond the cliff it would be best, were it a number."""
        fitness = places[..., 0].double()
        return torch.where(places[..., 0] > edge, math.nan, fitness)

    states = run(started(config, [0, 1]), cliff, config)
    for state in states[1:]:
        places, fitness = state.leaders()
        assert bool((places[:, 0] <= edge).all())
        assert torch.equal(fitness, places[:, 0].double())
        known = state.best_fitness > -math.inf
        assert bool((state.best[..., 0][known] <= edge).all())
        assert not state.best_fitness.isnan().any()
    assert all(bool((state.position[..., 0] > edge).any()) for state in states[:3])


def test_a_swarm_that_sees_no_number_is_never_better() -> None:
    config = SwarmConfig(particles=3, patience=4)
    nothing = torch.full((1, 3), math.nan, dtype=torch.float64)
    states = run(started(config, [0]), constant(nothing), config)
    assert [int(each.stagnant) for each in states] == [0, 1, 2, 3, 4]
    assert float(states[-1].leaders()[1]) == -math.inf
    assert bool(states[-1].position.isfinite().all())
