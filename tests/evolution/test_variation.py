"""Sampling, mutation and crossover: always valid, within the choices, and pure."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolution.genotype import Genotype
from evolution.sampling import sample
from evolution.space import SearchSpace
from evolution.variation import OPERATORS, crossover, mutate
from robustkit.models.blueprint import Block, wire

SPACES = (
    SearchSpace(),
    SearchSpace(max_blocks=3, max_inputs=1, kernels=(3,), norms=("group",), merges=("add",)),
    SearchSpace(min_blocks=4, max_blocks=4, max_inputs=3, hidden=(16,), head_pools=("flatten",)),
    SearchSpace(kinds=("separable", "pool"), activations=("silu",), pools=("avg",)),
    SearchSpace(kinds=("conv",), min_blocks=1, channels=(4,), max_blocks=2),
)
seeds = st.integers(0, 2**32)
spaces = st.sampled_from(SPACES)


@given(seeds, spaces)
def test_samples_are_in_the_space_and_without_dead_blocks(seed: int, space: SearchSpace) -> None:
    genotype = sample(random.Random(seed), space)
    assert space.contains(genotype)
    assert genotype.pruned() == genotype
    assert sample(random.Random(seed), space) == genotype


@given(seeds, spaces)
def test_mutants_are_other_networks_of_the_space(seed: int, space: SearchSpace) -> None:
    parent = sample(random.Random(seed), space)
    before = parent.to_dict()
    mutant, applied = mutate(parent, random.Random(seed + 1), space)
    assert mutate(parent, random.Random(seed + 1), space) == (mutant, applied)
    assert parent.to_dict() == before
    assert space.contains(mutant)
    assert mutant.pruned() == mutant
    assert mutant.key() != parent.key()
    assert 1 <= len(applied) <= 3
    assert set(applied) <= set(OPERATORS)


@given(seeds, spaces)
def test_a_long_walk_stays_in_the_space(seed: int, space: SearchSpace) -> None:
    rng = random.Random(seed)
    genotype = sample(rng, space)
    for _ in range(12):
        genotype, _ = mutate(genotype, rng, space)
        assert space.contains(genotype)


@given(seeds, spaces)
def test_children_are_in_the_space(seed: int, space: SearchSpace) -> None:
    rng = random.Random(seed)
    first, second = sample(rng, space), sample(rng, space)
    before = (first.to_dict(), second.to_dict())
    child = crossover(first, second, rng, space)
    assert (first.to_dict(), second.to_dict()) == before
    assert space.contains(child)
    assert child.pruned() == child


@given(seeds)
def test_a_child_begins_as_one_parent_and_ends_as_the_other(seed: int) -> None:
    """Without skips nothing can die: the blocks are a prefix of one and a suffix of the other."""
    space = SearchSpace(max_inputs=1)
    rng = random.Random(seed)
    first, second = sample(rng, space), sample(rng, space)
    child = crossover(first, second, rng, space)
    cuts = [
        cut
        for cut in range(1, len(child.blocks))
        if child.blocks[:cut] == first.blocks[:cut]
        and _genes(child)[cut:] == _genes(second)[cut - len(child.blocks) :]
    ]
    assert child == first or (cuts and child.head == second.head)


def _genes(genotype: Genotype) -> list[Block]:
    return [replace(block, inputs=(0,)) for block in genotype.blocks]


def test_crossover_keeps_the_second_parents_skips() -> None:
    space = SearchSpace(max_blocks=4, min_blocks=4, channels=(4, 8))
    chain = [Block(channels=4, inputs=(node,)) for node in range(4)]
    skip = [Block(channels=8, inputs=(node,)) for node in range(3)]
    last = Block(channels=8, inputs=(2, 3))
    child = crossover(Genotype(tuple(chain)), Genotype((*skip, last)), random.Random(0), space)
    assert child.blocks[-1] == last
    assert child.blocks[0].channels == 4


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_every_operator_changes_something_and_gives_a_legal_graph(name: str) -> None:
    space, changed = SearchSpace(), Counter[bool]()
    for seed in range(60):
        rng = random.Random(seed)
        parent = sample(rng, space)
        child = OPERATORS[name](parent, rng, space)  # a Genotype checks its own wiring
        changed[child.key() != parent.key()] += 1
    assert changed[True] > 20


def test_where_no_mutant_is_in_the_space_the_genotype_comes_back() -> None:
    space = SearchSpace(min_blocks=1, max_blocks=1, kinds=("conv",))
    stranger = Genotype(tuple(Block(kind="dense", inputs=(node,)) for node in range(6)))
    assert mutate(stranger, random.Random(0), space) == (stranger, ())


def test_most_samples_reduce_their_maps() -> None:
    """Large maps up to the head cost most of a budget: 32 pixels shrink to at most 8."""
    rng = random.Random(0)
    sides = [wire(sample(rng, SearchSpace()).blueprint(), 3, 32)[-1].out.side for _ in range(200)]
    assert max(sides) <= 16
    assert sum(side <= 8 for side in sides) > 140
