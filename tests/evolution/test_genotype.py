"""Genotypes: what is inactive, what a key identifies, and the round trip."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evolution.genotype import Genotype, effective_genes
from robustkit.compute.seeds import isolated_rng
from robustkit.errors import ModelError
from robustkit.models import cost
from robustkit.models.blueprint import Block, Blueprint, BlueprintNet, Head
from tests.evolution.genotypes import genotypes


@given(genotypes())
def test_json_round_trip(genotype: Genotype) -> None:
    assert Genotype.from_dict(json.loads(json.dumps(genotype.to_dict()))) == genotype


@given(genotypes())
def test_canonical_is_idempotent_and_keeps_the_key(genotype: Genotype) -> None:
    canonical = genotype.canonical()
    assert canonical.canonical() == canonical
    assert canonical.key() == genotype.key() == genotype.pruned().key()
    assert genotype.blueprint() == Blueprint(blocks=canonical.blocks, head=canonical.head)


@settings(max_examples=25, deadline=None)
@given(genotypes(), st.integers(4, 9))
def test_canonical_computes_the_same_function(genotype: Genotype, size: int) -> None:
    """Same parameters in the same order: the seed that starts one net starts the other."""
    plain = Blueprint(blocks=genotype.blocks, head=genotype.head)
    x = torch.rand(2, 2, size, size)
    with isolated_rng(0):
        written = BlueprintNet(plain, 3, 2, size).eval()
    expressed = BlueprintNet(genotype.blueprint(), 3, 2, size).eval()
    weights = list(written.state_dict().values())
    expressed.load_state_dict(dict(zip(expressed.state_dict(), weights, strict=True)))
    torch.testing.assert_close(expressed(x), written(x))
    assert cost(plain, (2, size, size), 3) == cost(genotype.blueprint(), (2, size, size), 3)


@settings(max_examples=60)
@given(genotypes(), st.data())
def test_a_gene_without_effect_does_not_change_the_key(
    genotype: Genotype, data: st.DataObject
) -> None:
    node = data.draw(st.integers(0, len(genotype.blocks) - 1))
    block = genotype.blocks[node]
    other = {"channels": 7, "kernel": 5, "norm": "none", "activation": "gelu", "pool": "max"}
    gene = data.draw(st.sampled_from(sorted(other)))
    blocks = list(genotype.blocks)
    blocks[node] = replace(block, **{gene: other[gene]})  # type: ignore[arg-type]
    changed = Genotype(tuple(blocks), genotype.head)
    live = node + 1 in _live(genotype)
    matters = live and gene in effective_genes(block) and getattr(block, gene) != other[gene]
    if not matters:
        assert changed.key() == genotype.key()
    elif block.kind != "pool":  # a 1x1 pool is an identity, whatever its other genes
        assert changed.key() != genotype.key()


def _live(genotype: Genotype) -> set[int]:
    """The slow way: nodes from which some path reaches the last one."""
    last = len(genotype.blocks)

    def reaches(node: int) -> bool:
        consumers = [
            later
            for later in range(node + 1, last + 1)
            if node in genotype.blocks[later - 1].inputs
        ]
        return node == last or any(reaches(each) for each in consumers)

    return {node for node in range(1, last + 1) if reaches(node)}


@given(genotypes())
def test_pruning_keeps_exactly_the_live_blocks(genotype: Genotype) -> None:
    live = sorted(_live(genotype))
    kept = genotype.pruned().blocks
    assert [replace(block, inputs=(0,)) for block in kept] == [
        replace(genotype.blocks[node - 1], inputs=(0,)) for node in live
    ]


def test_an_idle_identity_is_bypassed() -> None:
    conv = Block(channels=4)
    idle = Block(kind="identity", inputs=(1,))
    chain = Genotype((conv, idle, replace(conv, inputs=(2,))))
    assert chain.canonical().blocks == (conv, replace(conv, inputs=(1,)))


def test_an_identity_that_doubles_a_sum_stays() -> None:
    conv, idle = Block(channels=4), Block(kind="identity", inputs=(1,))
    doubled = Genotype((conv, idle, Block(kind="identity", inputs=(1, 2))))
    assert len(doubled.canonical().blocks) == 3


def test_the_hidden_activation_counts_only_with_a_hidden_layer() -> None:
    plain = [Genotype((Block(),), Head(activation=name)).key() for name in ("relu", "gelu")]
    hidden = [Genotype((Block(),), Head(hidden=8, activation=n)).key() for n in ("relu", "gelu")]
    assert plain[0] == plain[1]
    assert hidden[0] != hidden[1]


def test_a_key_is_the_same_in_every_process() -> None:
    assert Genotype((Block(channels=4),)).key() == "c73f83cd1ba9af17"


def test_a_block_fed_by_a_later_one_is_refused() -> None:
    with pytest.raises(ModelError, match=r"block 1 may be fed by nodes 0\.\.0, not \(1,\)"):
        Genotype((Block(inputs=(1,)), Block()))
