"""The search space: its checks, and what it contains."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolution.genotype import Genotype, effective_genes
from evolution.space import SearchSpace
from robustkit.errors import ConfigError
from robustkit.models import cost
from robustkit.models.blueprint import BLOCKS, Block, Head
from tests.evolution.genotypes import genotypes

SHAPE = (3, 16, 16)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kinds": ("conf",)}, r"unknown entry 'conf' in kinds; did you mean 'conv'\?"),
        ({"kinds": ("pool", "identity")}, "kinds must name one of conv, .*, not only pool"),
        ({"norms": ()}, r"norms must be distinct and at least one, not \[\]"),
        ({"pools": ("avg", "avg")}, "pools must be distinct"),
        ({"channels": (16, 8)}, r"channels must be ascending and in 1\.\.4096, not \[16, 8\]"),
        ({"channels": ()}, "channels must be ascending"),
        ({"kernels": (3, 4)}, r"kernels must be odd, not \(3, 4\)"),
        ({"kernels": (3, 17)}, r"kernels must be ascending and in 1\.\.15"),
        ({"hidden": (-1,)}, r"hidden must be ascending and in 0\.\.8192"),
        ({"min_blocks": 0}, "1 <= min_blocks <= max_blocks is needed, not 0 and 8"),
        ({"min_blocks": 9}, "not 9 and 8"),
        ({"max_inputs": 0}, "max_inputs must be at least 1, not 0"),
        ({"max_params": 0}, "max_params must be at least 1"),
        ({"max_macs": -1}, "max_macs must be at least 1, not -1"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SearchSpace(**fields)


WIDE = SearchSpace(min_blocks=1, max_inputs=3, channels=(2, 3, 4), kernels=(1, 3), hidden=(0, 3))


@given(genotypes(), st.data())
def test_only_choices_are_contained(genotype: Genotype, data: st.DataObject) -> None:
    learned = [block for block in genotype.pruned().blocks if BLOCKS[block.kind].learned]
    assert WIDE.contains(genotype) == bool(learned)
    name = data.draw(st.sampled_from(["kinds", "norms", "activations", "pools", "merges"]))
    narrow = replace(WIDE, **{name: getattr(WIDE, name)[:2]})
    gene = name.removesuffix("s")
    used = {getattr(each, gene) for each in genotype.blocks if gene in effective_genes(each)}
    if name == "activations" and genotype.head.hidden:
        used.add(genotype.head.activation)
    assert narrow.contains(genotype) == (bool(learned) and used <= set(getattr(narrow, name)))


def test_blocks_are_counted() -> None:
    conv, pool = Block(), Block(kind="pool", inputs=(1,))
    two = Genotype((conv, pool))
    assert SearchSpace(min_blocks=1, max_blocks=2).contains(two)
    assert not SearchSpace(min_blocks=1, max_blocks=1).contains(two)
    assert not SearchSpace(min_blocks=2, max_blocks=2).contains(two)  # a pool has no weights
    dead = Genotype((conv, conv))
    assert not SearchSpace(min_blocks=2, max_blocks=2).contains(dead)


def test_head_and_inputs_are_checked() -> None:
    space = SearchSpace(min_blocks=1, head_pools=("avg",), max_inputs=1)
    assert not space.contains(Genotype((Block(),), Head(pool="flatten")))
    assert not space.contains(Genotype((Block(),), Head(hidden=5)))
    assert not space.contains(Genotype((Block(), Block(inputs=(0, 1)))))


def test_limits_are_inclusive() -> None:
    genotype = Genotype((Block(),))
    spent = cost(genotype.blueprint(), SHAPE, 10)
    exact = SearchSpace(min_blocks=1, max_params=spent.params, max_macs=spent.macs)
    assert exact.fits(genotype, SHAPE, 10)
    assert not replace(exact, max_params=spent.params - 1).fits(genotype, SHAPE, 10)
    assert not replace(exact, max_macs=spent.macs - 1).fits(genotype, SHAPE, 10)
