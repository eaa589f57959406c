"""Genotypes for property tests: any legal graph with any genes, dead blocks included."""

from __future__ import annotations

from hypothesis import strategies as st

from evolution.genotype import Genotype
from robustkit.models.blueprint import (
    ACTIVATIONS,
    HEAD_POOLS,
    KINDS,
    MERGES,
    NORMS,
    POOLS,
    Block,
    Head,
)


@st.composite
def genotypes(draw: st.DrawFn, max_blocks: int = 5) -> Genotype:
    count = draw(st.integers(1, max_blocks))
    return Genotype(tuple(draw(_blocks(node)) for node in range(1, count + 1)), draw(_heads()))


@st.composite
def _blocks(draw: st.DrawFn, node: int) -> Block:
    return Block(
        kind=draw(st.sampled_from((*KINDS, "identity", "identity"))),
        channels=draw(st.sampled_from((2, 3, 4))),
        kernel=draw(st.sampled_from((1, 3))),
        stride=draw(st.sampled_from((1, 1, 2))),
        norm=draw(st.sampled_from(NORMS)),
        activation=draw(st.sampled_from(ACTIVATIONS)),
        pool=draw(st.sampled_from(POOLS)),
        inputs=tuple(sorted(draw(st.sets(st.integers(0, node - 1), min_size=1, max_size=3)))),
        merge=draw(st.sampled_from(MERGES)),
    )


@st.composite
def _heads(draw: st.DrawFn) -> Head:
    return Head(
        pool=draw(st.sampled_from(HEAD_POOLS)),
        hidden=draw(st.sampled_from((0, 3))),
        activation=draw(st.sampled_from(ACTIVATIONS)),
    )
