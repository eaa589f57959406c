"""Random blueprints for property tests."""

from __future__ import annotations

from hypothesis import strategies as st

from robustkit.models import Block, Blueprint, Head
from robustkit.models.blueprint import ACTIVATIONS, HEAD_POOLS, KINDS, MERGES, NORMS, POOLS

HEADS = st.builds(
    Head,
    pool=st.sampled_from(HEAD_POOLS),
    hidden=st.sampled_from((0, 5)),
    activation=st.sampled_from(ACTIVATIONS),
)


@st.composite
def blocks(draw: st.DrawFn, node: int) -> Block:
    inputs = draw(st.sets(st.integers(0, node - 1), min_size=1, max_size=3))
    return Block(
        kind=draw(st.sampled_from(KINDS)),
        channels=draw(st.integers(1, 9)),
        kernel=draw(st.sampled_from((1, 3, 5))),
        stride=draw(st.sampled_from((1, 2))),
        norm=draw(st.sampled_from(NORMS)),
        activation=draw(st.sampled_from(ACTIVATIONS)),
        pool=draw(st.sampled_from(POOLS)),
        inputs=tuple(sorted(inputs)),
        merge=draw(st.sampled_from(MERGES)),
    )


@st.composite
def blueprints(draw: st.DrawFn) -> Blueprint:
    depth = draw(st.integers(1, 5))
    return Blueprint(
        blocks=tuple(draw(blocks(node)) for node in range(1, depth + 1)), head=draw(HEADS)
    )
