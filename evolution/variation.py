"""Variation of genotypes: small steps of one network, and sub-graphs of two put together.

Both are pure, return genotypes the space contains, and leave cost to the caller. Dead blocks are
pruned from every child, so that no mutation is spent on them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from evolution.genotype import Genotype, effective_genes
from evolution.sampling import sample_block, sample_head
from evolution.space import SearchSpace
from robustkit.models.blueprint import BLOCKS, Block

Operator = Callable[[Genotype, random.Random, SearchSpace], Genotype]

OPERATORS: dict[str, Operator] = {}
_WEIGHTS: dict[str, float] = {}
_STEPS = {1: 0.6, 2: 0.3, 3: 0.1}  # how many operators one mutation applies
_ATTEMPTS = 50


def mutate(
    genotype: Genotype, rng: random.Random, space: SearchSpace
) -> tuple[Genotype, tuple[str, ...]]:
    """Return a mutation of `genotype` and the names of its operators, in order.

    One to three of `OPERATORS` are applied, mostly one. The mutant expresses another network than
    `genotype` does; in a space so small that none is found, `genotype` comes back with no names.
    """
    names, weights = tuple(OPERATORS), tuple(_WEIGHTS.values())
    key = genotype.key()
    for _ in range(_ATTEMPTS):
        steps = rng.choices(tuple(_STEPS), tuple(_STEPS.values()))[0]
        mutant, applied = genotype, tuple(rng.choices(names, weights, k=steps))
        for name in applied:
            mutant = OPERATORS[name](mutant, rng, space).pruned()
        if space.contains(mutant) and mutant.key() != key:
            return mutant, applied
    return genotype, ()


def crossover(
    first: Genotype, second: Genotype, rng: random.Random, space: SearchSpace
) -> Genotype:
    """Return the beginning of `first` followed by the end of `second`, wired as each was.

    Both are cut in topological order. Where the end reaches back across its cut, it is fed by the
    node at the same relative depth of the new beginning. Cuts after equally many reductions are
    preferred: then both halves see maps of the size they were bred for. Where no cut gives a
    genotype the space contains, `first` comes back.
    """
    head, tail = first.pruned(), second.pruned()
    cuts = [(i, j) for i in range(1, len(head.blocks)) for j in range(1, len(tail.blocks))]
    rng.shuffle(cuts)
    cuts.sort(key=lambda cut: _reductions(head, cut[0]) != _reductions(tail, cut[1]))
    for cut in cuts:
        child = _join(head, tail, *cut).pruned()
        if space.contains(child):
            return child
    return first


def _reductions(genotype: Genotype, cut: int) -> int:
    return sum(block.stride == 2 for block in genotype.blocks[:cut])


def _join(head: Genotype, tail: Genotype, i: int, j: int) -> Genotype:
    """Return the first `i` blocks of `head`, then those of `tail` after its first `j`."""

    def translate(node: int) -> int:
        return node - j + i if node >= j else round(node * i / j)

    blocks = [
        replace(block, inputs=tuple(sorted({translate(node) for node in block.inputs})))
        for block in tail.blocks[j:]
    ]
    return Genotype((*head.blocks[:i], *blocks), tail.head)


def _operator(weight: float) -> Callable[[Operator], Operator]:
    """Register a mutation operator, drawn in proportion to `weight`, by its function's name.

    An operator that has nothing to do returns the genotype it was given.
    """

    def register(function: Operator) -> Operator:
        name = function.__name__.lstrip("_")
        if name in OPERATORS:
            raise ValueError(f"mutation operator '{name}' is registered twice")
        OPERATORS[name], _WEIGHTS[name] = function, weight
        return function

    return register


@_operator(4.0)
def _gene(genotype: Genotype, rng: random.Random, space: SearchSpace) -> Genotype:
    """Change one gene of one block: a step up or down, or another choice."""
    node = rng.randrange(len(genotype.blocks))
    block = genotype.blocks[node]
    gene = rng.choice([gene for gene in effective_genes(block) if gene != "inputs"])
    value, choices = getattr(block, gene), space.choices[gene]
    changed: Any = (
        _shifted(space.channels if gene == "channels" else space.kernels, value, _step(rng))
        if gene in ("channels", "kernel")
        else rng.choice([choice for choice in choices if choice != value] or [value])
    )
    return _with(genotype, node, replace(block, **{gene: changed}))


@_operator(3.0)
def _restyle(genotype: Genotype, rng: random.Random, space: SearchSpace) -> Genotype:
    """Give one value of a gene to all blocks or to most: one block's alone seldom shows."""
    gene = rng.choice(("kind", "kind", "kernel", "norm", "activation", "pool"))
    value: Any = rng.choice(space.learned_kinds if gene == "kind" else space.choices[gene])
    share = rng.choice((0.5, 0.8, 1.0))
    blocks = tuple(
        replace(block, **{gene: value})
        if (gene == "pool" or BLOCKS[block.kind].learned) and rng.random() < share
        else block
        for block in genotype.blocks
    )
    return Genotype(blocks, genotype.head)


@_operator(1.0)
def _resize(genotype: Genotype, rng: random.Random, space: SearchSpace) -> Genotype:
    """Make all blocks wider or all narrower by one step."""
    step = rng.choice((-1, 1))
    blocks = tuple(
        replace(block, channels=_shifted(space.channels, block.channels, step))
        for block in genotype.blocks
    )
    return Genotype(blocks, genotype.head)


@_operator(1.5)
def _insert(genotype: Genotype, rng: random.Random, space: SearchSpace) -> Genotype:
    """Put a new block on an edge, or at the end: a sampled one, or a copy of the block before."""
    at = rng.randint(1, len(genotype.blocks) + 1)
    source = at - 1 if at > len(genotype.blocks) else rng.choice(genotype.blocks[at - 1].inputs)
    block = sample_block(rng, space, (source,))
    if source > 0 and rng.random() < 0.5:
        block = replace(genotype.blocks[source - 1], stride=1, inputs=(source,))
    later = [
        replace(block, inputs=tuple(node + (node >= at) for node in block.inputs))
        for block in genotype.blocks[at - 1 :]
    ]
    if later:
        edge = {at if node == source else node for node in later[0].inputs}
        later[0] = replace(later[0], inputs=tuple(sorted(edge)))
    return Genotype((*genotype.blocks[: at - 1], block, *later), genotype.head)


@_operator(1.0)
def _delete(genotype: Genotype, rng: random.Random, space: SearchSpace) -> Genotype:
    """Take one block out; what fed it feeds its consumers."""
    if len(genotype.blocks) == 1:
        return genotype
    gone = rng.randint(1, len(genotype.blocks))
    sources = genotype.blocks[gone - 1].inputs

    def rewired(inputs: Sequence[int]) -> tuple[int, ...]:
        nodes = {node - (node > gone) for node in inputs if node != gone}
        nodes.update(sources if gone in inputs else ())
        return tuple(sorted(nodes)[-space.max_inputs :])

    rest = (*genotype.blocks[: gone - 1], *genotype.blocks[gone:])
    blocks = tuple(replace(block, inputs=rewired(block.inputs)) for block in rest)
    return Genotype(blocks, genotype.head)


@_operator(1.0)
def _rewire(genotype: Genotype, rng: random.Random, space: SearchSpace) -> Genotype:
    """Add, drop or move one of a block's inputs."""
    node = rng.randint(1, len(genotype.blocks))
    block = genotype.blocks[node - 1]
    inputs = set(block.inputs)
    free = [source for source in range(node) if source not in inputs]
    drop = len(inputs) > 1 and rng.random() < 0.5
    if drop or len(inputs) == space.max_inputs:
        inputs.remove(rng.choice(block.inputs))
    if free and not drop:
        inputs.add(rng.choice(free))
    if not inputs:
        return genotype
    wired = replace(block, inputs=tuple(sorted(inputs)), merge=rng.choice(space.merges))
    return _with(genotype, node - 1, wired)


@_operator(0.7)
def _head(genotype: Genotype, rng: random.Random, space: SearchSpace) -> Genotype:
    """Change one gene of the head."""
    return Genotype(genotype.blocks, sample_head(rng, space))


def _with(genotype: Genotype, position: int, block: Block) -> Genotype:
    blocks = list(genotype.blocks)
    blocks[position] = block
    return Genotype(tuple(blocks), genotype.head)


def _step(rng: random.Random) -> int:
    """Return a step up or down, sometimes of two."""
    return rng.choice((-1, 1)) * rng.choice((1, 1, 1, 2))


def _shifted(choices: Sequence[int], value: int, step: int) -> int:
    """Return the choice `step` places from the one nearest to `value`, held within the ends."""
    nearest = min(range(len(choices)), key=lambda place: abs(choices[place] - value))
    return choices[min(max(nearest + step, 0), len(choices) - 1)]
