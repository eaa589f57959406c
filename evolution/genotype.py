"""Genotypes, candidates and trials: a network's genes, who proposed it, and how it did.

Variation works on a `Genotype`; training and the ledger see the network it expresses. Genes
without an effect stay in the genotype, so that a later mutation may activate them, and are dropped
in `Genotype.canonical`, so that equal networks share one key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from robustkit.models.blueprint import BLOCKS, Block, Blueprint, Head
from robustkit.reading import Json

_DEFAULTS: Json = {gene.name: gene.default for gene in fields(Block)}
_WIRING = ("kind", "stride", "inputs")


def effective_genes(block: Block) -> tuple[str, ...]:
    """Return the names of the genes of `block` that change what it computes."""
    merge = ("merge",) if len(block.inputs) > 1 else ()
    return (*_WIRING, *BLOCKS[block.kind].genes, *merge)


@dataclass(frozen=True)
class Genotype:
    """Blocks in topological order and a head, as in `Blueprint`; some may have no effect.

    Raises `ModelError` where a block is fed by a node that does not come before it.

    >>> idle = Genotype((Block(), Block(kind="identity", inputs=(1,))))
    >>> idle.key() == Genotype((Block(),)).key()  # an identity changes no network
    True
    """

    blocks: tuple[Block, ...]
    head: Head = field(default_factory=Head)

    def __post_init__(self) -> None:
        Blueprint(blocks=self.blocks, head=self.head)

    def pruned(self) -> Genotype:
        """Return it without blocks from which no path leads to the head; other genes are kept."""
        live = _live_nodes(self.blocks)
        if len(live) == len(self.blocks):
            return self
        new_node = {0: 0} | {node: new for new, node in enumerate(live, start=1)}
        live_blocks = (self.blocks[node - 1] for node in live)
        blocks = tuple(
            replace(block, inputs=tuple(new_node[source] for source in block.inputs))
            for block in live_blocks
        )
        return Genotype(blocks, self.head)

    def canonical(self) -> Genotype:
        """Return the same network without inactive blocks, genes without effect at their defaults.

        Identities that pass on one input are bypassed. Idempotent.
        """
        blocks = tuple(_neutral(block) for block in self.pruned().blocks)
        while (shorter := _without_an_idle_identity(blocks)) is not None:
            blocks = tuple(_neutral(block) for block in shorter)
        head = self.head if self.head.hidden else replace(self.head, activation=Head().activation)
        return Genotype(blocks, head)

    def blueprint(self) -> Blueprint:
        """Return the network it expresses; genotypes with one `key` have one blueprint."""
        expressed = self.canonical()
        return Blueprint(blocks=expressed.blocks, head=expressed.head)

    def key(self) -> str:
        """Return 16 hexadecimal digits of the network expressed (SHA-256 of the canonical JSON)."""
        text = json.dumps(self.canonical().to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_dict(self) -> Json:
        """Return plain lists, strings and integers, with the inactive genes."""
        return Blueprint(blocks=self.blocks, head=self.head).to_dict()

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Genotype:
        """Return the genotype that `to_dict` wrote; raises `ModelError` naming any misfit."""
        blueprint = Blueprint.from_dict(plain)
        return cls(blueprint.blocks, blueprint.head)


def _live_nodes(blocks: Sequence[Block]) -> list[int]:
    """Return the nodes from which a path leads to the last block, in order, without the image."""
    live = {len(blocks)}
    for node in range(len(blocks), 0, -1):
        if node in live:
            live.update(blocks[node - 1].inputs)
    return sorted(live - {0})


def _neutral(block: Block) -> Block:
    """Return `block` with genes without effect at their defaults, a 1x1 pool as an identity."""
    if block.kind == "pool" and block.kernel == 1 and block.stride == 1:
        block = replace(block, kind="identity")
    effective = effective_genes(block)
    idle = {
        gene: value
        for gene, value in _DEFAULTS.items()
        if gene not in effective and getattr(block, gene) != value
    }
    return replace(block, **idle) if idle else block


def _without_an_idle_identity(blocks: tuple[Block, ...]) -> tuple[Block, ...] | None:
    """Return `blocks` without the first identity that can be bypassed; None if there is none."""
    for node, block in enumerate(blocks, start=1):
        idle = block.kind == "identity" and block.stride == 1 and len(block.inputs) == 1
        if idle and len(blocks) > 1 and (bypassed := _bypass(blocks, node)) is not None:
            return bypassed
    return None


def _bypass(blocks: tuple[Block, ...], node: int) -> tuple[Block, ...] | None:
    """Return `blocks` without `node`, whose only input takes its place; None if it has to stay.

    It has to stay where a consumer would be left with one input twice (the sum would change) or
    with the inputs of a concatenation in another order.
    """
    source = blocks[node - 1].inputs[0]
    remaining = []
    for block in (*blocks[: node - 1], *blocks[node:]):
        inputs = [source if index == node else index - (index > node) for index in block.inputs]
        ordered = sorted(set(inputs))
        if len(ordered) < len(inputs) or (ordered != inputs and block.merge == "concat"):
            return None
        remaining.append(replace(block, inputs=tuple(ordered)))
    return tuple(remaining)


@dataclass(frozen=True)
class Candidate:
    """A network to be evaluated.

    `number` counts from 0 in the order asked; `parents` are the numbers it was bred from, none
    for a given or a sampled one; `operator` says how ("preset", "sample", "crossover+gene", …).
    """

    number: int
    genotype: Genotype
    parents: tuple[int, ...]
    operator: str
    generation: int


@dataclass(frozen=True)
class Trial:
    """A candidate that was evaluated: its `values` by name where `outcome` is "Ok", else `reason`.

    `outcome` is the kind of an outcome: Ok, Diverged (a value is not finite), Invalid (the network
    cannot be built or evaluated), OutOfMemory, Timeout or Lost. `seconds` is what the evaluation
    took. `rung` is that of successive halving, 0 being the shortest evaluation.
    """

    candidate: Candidate
    outcome: str
    values: Mapping[str, float] | None = None
    reason: str = ""
    seconds: float = 0.0
    rung: int = 0

    @property
    def number(self) -> int:
        """Return the candidate's number in the order of proposal, from 0."""
        return self.candidate.number

    @property
    def blueprint(self) -> Blueprint:
        """Return the network."""
        return self.candidate.genotype.blueprint()


def pedigree(candidates: Iterable[Candidate], number: int) -> list[Candidate]:
    """Return candidate `number` and all its ancestors, each once, oldest first.

    Raises `KeyError` where it or an ancestor is not among `candidates`.
    """
    by_number = {candidate.number: candidate for candidate in candidates}
    family: dict[int, Candidate] = {}
    waiting = [number]
    while waiting:
        candidate = by_number[waiting.pop()]
        if candidate.number not in family:
            family[candidate.number] = candidate
            waiting.extend(candidate.parents)
    return [family[number] for number in sorted(family)]
