"""Random networks regular enough to train well within a few epochs.

Genes drawn one by one give patchwork: a different activation in every block, wide layers on
full-size maps, no reduction until the head. Networks that train well within a few epochs are more
regular, and a small budget cannot afford many others. So a genotype is drawn around a theme (one
kind, kernel, normalisation and activation, from which single blocks depart), its maps shrink early
and its channels grow as they do. What such a draw cannot give, mutation reaches.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from evolution.genotype import Genotype
from evolution.space import SearchSpace
from robustkit.models.blueprint.spec import Block, Head

T = TypeVar("T")

# Smooth activations carry the gradient penalty's second-order signal, of which ReLU hides half;
# average pools spread gradients where maximum pools pick one pixel.
_ACTIVATIONS = {"elu": 2.0, "silu": 2.0, "gelu": 2.0}
_POOLS = {"avg": 3.0}
_HEADS = {"avg": 3.0}
_REDUCTIONS = {1: 0.15, 2: 0.55, 3: 0.30}

_DEPART = 0.2  # a block leaves the theme, gene by gene
_SKIP = 0.25  # a block is fed by a second, earlier node
_POOLED = 0.4  # a reduction is a pool of its own rather than a stride
_PLAIN_STEM = 0.6  # the first block is a plain convolution, whatever the theme
_HIDDEN = 0.25  # the head has a hidden layer


@dataclass(frozen=True)
class _Theme:
    kind: str
    kernel: int
    norm: str
    activation: str


def sample(rng: random.Random, space: SearchSpace) -> Genotype:
    """Return a random genotype that `space` contains; its cost still has to be checked.

    All its blocks are live.
    """
    theme = _theme(rng, space)
    learned = rng.randint(space.min_blocks, space.max_blocks)
    room = space.max_blocks - learned
    reductions = weighted(rng, tuple(_REDUCTIONS), _REDUCTIONS)
    reduced = _reduced_blocks(rng, learned, reductions)
    width = rng.randrange(len(space.channels) // 2 + 1)
    blocks: list[Block] = []
    for position in range(learned):
        block = _learned_block(rng, space, theme, width, blocks)
        if position in reduced:
            width = min(width + rng.choice((1, 2)), len(space.channels) - 1)
            if room and "pool" in space.kinds and rng.random() < _POOLED:
                room -= 1
                blocks.append(block)
                block = _pool(rng, space, len(blocks))
            else:
                block = replace(block, stride=2)
        blocks.append(block)
    return Genotype(tuple(blocks), sample_head(rng, space))


def sample_block(rng: random.Random, space: SearchSpace, inputs: tuple[int, ...]) -> Block:
    """Return a random block of any kind with stride 1, fed by `inputs`; every gene is a choice."""
    return Block(
        kind=rng.choice(space.kinds),
        channels=rng.choice(space.channels),
        kernel=rng.choice(space.kernels),
        norm=rng.choice(space.norms),
        activation=weighted(rng, space.activations, _ACTIVATIONS),
        pool=weighted(rng, space.pools, _POOLS),
        inputs=inputs,
        merge=rng.choice(space.merges),
    )


def sample_head(rng: random.Random, space: SearchSpace) -> Head:
    """Return a random head, mostly average pooling without a hidden layer."""
    widths = [width for width in space.hidden if width > 0]
    hidden = 0 in space.hidden and (not widths or rng.random() >= _HIDDEN)
    return Head(
        pool=weighted(rng, space.head_pools, _HEADS),
        hidden=0 if hidden else rng.choice(widths),
        activation=weighted(rng, space.activations, _ACTIVATIONS),
    )


def weighted(rng: random.Random, choices: Sequence[T], weights: Mapping[T, float]) -> T:
    """Return one of `choices`, each with its weight in `weights` or else 1."""
    return rng.choices(choices, [weights.get(choice, 1.0) for choice in choices])[0]


def _theme(rng: random.Random, space: SearchSpace) -> _Theme:
    kind = rng.choice(space.learned_kinds)
    return _Theme(
        kind=kind,
        kernel=_kernel(rng, space, kind),
        norm=rng.choice(space.norms),
        activation=weighted(rng, space.activations, _ACTIVATIONS),
    )


def _kernel(rng: random.Random, space: SearchSpace, kind: str) -> int:
    """Draw a kernel; large ones are cheap in depthwise convolutions only."""
    rank = range(1, len(space.kernels) + 1)
    weights = rank if kind == "separable" else [1 / value**2 for value in rank]
    return rng.choices(space.kernels, list(weights))[0]


def _reduced_blocks(rng: random.Random, learned: int, reductions: int) -> set[int]:
    """Return positions after which maps shrink: one of the first two blocks, others anywhere."""
    first = rng.randrange(min(2, learned))
    others = [position for position in range(learned) if position != first]
    return {first, *rng.sample(others, min(reductions - 1, len(others)))}


def _learned_block(
    rng: random.Random, space: SearchSpace, theme: _Theme, width: int, before: Sequence[Block]
) -> Block:
    kind = rng.choice(space.learned_kinds) if rng.random() < _DEPART else theme.kind
    if not before and "conv" in space.kinds and rng.random() < _PLAIN_STEM:
        kind = "conv"
    departs = kind != theme.kind or rng.random() < _DEPART
    # A dense block adds its channels to those it is fed: half the width keeps it in proportion.
    channels = space.channels[width // 2 if kind == "dense" else width]
    block = sample_block(rng, space, _inputs(rng, space, len(before)))
    return replace(
        block,
        kind=kind,
        channels=channels,
        kernel=_kernel(rng, space, kind) if departs else theme.kernel,
        norm=block.norm if rng.random() < _DEPART else theme.norm,
        activation=block.activation if rng.random() < _DEPART else theme.activation,
    )


def _inputs(rng: random.Random, space: SearchSpace, before: int) -> tuple[int, ...]:
    """Return the block just before and, sometimes, an earlier node."""
    if before and space.max_inputs > 1 and rng.random() < _SKIP:
        return (rng.randrange(before), before)
    return (before,)


def _pool(rng: random.Random, space: SearchSpace, source: int) -> Block:
    block = sample_block(rng, space, (source,))
    return replace(block, kind="pool", kernel=space.kernels[0], stride=2)
