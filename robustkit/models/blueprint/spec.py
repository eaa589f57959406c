"""A network described by data: a small directed graph of blocks and a head.

A `Blueprint` holds no input shape and no class count: the same blueprint builds a network for any
images. Node 0 is the image; node i (1, 2, …) is `blocks[i - 1]`; the last block feeds the head.
Every block names the earlier nodes that feed it, so a blueprint is acyclic by construction.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from torch import nn

from robustkit.errors import ModelError, did_you_mean
from robustkit.reading import Json
from robustkit.registry import Registry

# The kinds that a search draws from by default; `BLOCKS` holds these and the user's own.
KINDS = ("conv", "separable", "residual", "dense", "inception", "pool", "identity")
NORMS = ("batch", "group", "none")
ACTIVATIONS = ("relu", "leaky_relu", "elu", "silu", "gelu")
POOLS = ("avg", "max")
MERGES = ("add", "concat")
HEAD_POOLS = ("avg", "flatten")


@dataclass(frozen=True, kw_only=True)
class Block:
    """One node of the graph.

    `channels` is the number of output channels (`dense`: of the channels it adds; `pool` and
    `identity` keep their input's). `kernel` is odd, in pixels. `stride` is 1 or 2. `pool` says how
    a `pool` block reduces. Several `inputs` are brought to the smallest of their spatial sizes by
    average pooling and then added (behind 1x1 adapters where the channels differ) or concatenated.
    """

    kind: str = "conv"
    channels: int = 16
    kernel: int = 3
    stride: int = 1
    norm: str = "batch"
    activation: str = "relu"
    pool: str = "avg"
    inputs: tuple[int, ...] = (0,)
    merge: str = "add"

    def __post_init__(self) -> None:
        _choice("block", "kind", self.kind, BLOCKS)
        _choice("block", "norm", self.norm, NORMS)
        _choice("block", "activation", self.activation, ACTIVATIONS)
        _choice("block", "pool", self.pool, POOLS)
        _choice("block", "merge", self.merge, MERGES)
        _whole("block", "channels", self.channels, range(1, 4097), "in 1..4096")
        _whole("block", "kernel", self.kernel, range(1, 16, 2), "odd and in 1..15")
        _whole("block", "stride", self.stride, range(1, 3), "1 or 2")
        if not self.inputs or any(type(source) is not int for source in self.inputs):
            raise ModelError(f"block: inputs must be numbers of nodes, not {self.inputs}")
        if list(self.inputs) != sorted(set(self.inputs)):
            raise ModelError(f"block: inputs must be distinct and ascending, not {self.inputs}")


@dataclass(frozen=True, kw_only=True)
class Head:
    """From the last block's maps to the logits: pool or flatten, an optional hidden layer, linear.

    `hidden` is the width of the hidden layer, 0 for none; `activation` is the hidden layer's.
    """

    pool: str = "avg"
    hidden: int = 0
    activation: str = "relu"

    def __post_init__(self) -> None:
        _choice("head", "pool", self.pool, HEAD_POOLS)
        _choice("head", "activation", self.activation, ACTIVATIONS)
        _whole("head", "hidden", self.hidden, range(8193), "in 0..8192")


@dataclass(frozen=True, kw_only=True)
class Blueprint:
    """Blocks in topological order and a head; `to_dict` and `from_dict` round-trip as JSON.

    >>> made = Blueprint(blocks=(Block(), Block(kind="residual", inputs=(1,))))
    >>> Blueprint.from_dict(made.to_dict()) == made
    True
    >>> Blueprint(blocks=(Block(inputs=(1,)),))
    Traceback (most recent call last):
    robustkit.errors.ModelError: blueprint: block 1 may be fed by nodes 0..0, not (1,)
    """

    blocks: tuple[Block, ...]
    head: Head = field(default_factory=Head)

    def __post_init__(self) -> None:
        if not self.blocks:
            raise ModelError("blueprint: at least one block is needed")
        for node, block in enumerate(self.blocks, start=1):
            if block.inputs[0] < 0 or block.inputs[-1] >= node:
                raise ModelError(
                    f"blueprint: block {node} may be fed by nodes 0..{node - 1}, not {block.inputs}"
                )

    def to_dict(self) -> Json:
        """Return plain lists, strings and integers, ready for `json.dumps`."""
        return {"blocks": [_plain(block) for block in self.blocks], "head": _plain(self.head)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Blueprint:
        """Return the inverse of `to_dict`; raises `ModelError` naming whatever does not fit."""
        entries = _entries("blueprint", plain, ("blocks", "head"))
        if not isinstance(entries["blocks"], list):
            raise ModelError(f"blueprint: blocks must be a list, not {entries['blocks']!r}")
        head = Head(**_entries("head", entries["head"], tuple(item.name for item in fields(Head))))
        return cls(blocks=tuple(_block(entry) for entry in entries["blocks"]), head=head)


def _plain(genes: Block | Head) -> Json:
    # A frozen dataclass without slots keeps its fields, in their order, in its dictionary.
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in vars(genes).items()
    }


def _block(plain: object) -> Block:
    genes = _entries("block", plain, tuple(item.name for item in fields(Block)))
    if not isinstance(genes["inputs"], list):
        raise ModelError(f"block: inputs must be a list, not {genes['inputs']!r}")
    return Block(**{**genes, "inputs": tuple(genes["inputs"])})


def _entries(where: str, plain: object, names: tuple[str, ...]) -> Json:
    """Return `plain` as a dictionary with exactly the entries `names`."""
    if not isinstance(plain, Mapping):
        raise ModelError(f"{where}: must be a JSON object, not {plain!r}")
    for name in plain:
        if name not in names:
            raise ModelError(f"{where}: unknown entry '{name}'{did_you_mean(str(name), names)}")
    for name in names:
        if name not in plain:
            raise ModelError(f"{where}: entry '{name}' is missing")
    return dict(plain)


def _choice(where: str, what: str, value: object, options: Collection[str]) -> None:
    # A file may tell anything here, and lists are no keys of a registry.
    if not isinstance(value, str) or value not in options:
        hint = did_you_mean(str(value), options)
        raise ModelError(f"{where}: unknown {what} '{value}'{hint}")


def _whole(where: str, what: str, value: int, allowed: range, expected: str) -> None:
    if type(value) is not int or value not in allowed:
        raise ModelError(f"{where}: {what} must be {expected}, not {value!r}")


OF_A_LAYER = ("channels", "kernel", "norm", "activation")


def own_channels(block: Block, joined: Maps) -> int:
    """Return the output channels of a block whose gene states them."""
    return block.channels


@dataclass(frozen=True)
class Kind:
    """What `block.kind` stands for.

    `make(wiring)` is a module from maps (N, joined.channels, joined.side, joined.side) to
    (N, out.channels, out.side, out.side), where out.side is joined.side / stride, rounded up, and
    out.channels what `channels(block, joined)` says. `learned` kinds have weights; their
    convolutions, if any, give maps of the block's own side, which costs are counted by. `genes` are
    those of a block, beside its kind, stride and inputs, that change what `make` makes.
    """

    make: Callable[[Wiring], nn.Module]
    channels: Callable[[Block, Maps], int] = own_channels
    learned: bool = True
    genes: tuple[str, ...] = OF_A_LAYER


BLOCKS: Registry[Kind] = Registry("kind of block", ModelError)


@dataclass(frozen=True)
class Maps:
    """Feature maps (N, channels, side, side)."""

    channels: int
    side: int


@dataclass(frozen=True)
class Wiring:
    """One live node: its number, its block, the maps it is fed, joined and gives."""

    node: int
    block: Block
    sources: tuple[Maps, ...]
    joined: Maps
    out: Maps


def wire(blueprint: Blueprint, in_channels: int, image_size: int) -> tuple[Wiring, ...]:
    """Return the nodes that feed the head, directly or not, in order; the last feeds it directly.

    Blocks from which no path leads to the last block compute nothing that is used, so they are
    left out.

    >>> blocks = (Block(channels=8, stride=2), Block(kind="dense", channels=4, inputs=(1,)))
    >>> wire(Blueprint(blocks=blocks), in_channels=3, image_size=15)[-1].out
    Maps(channels=12, side=8)
    """
    maps = {0: Maps(in_channels, image_size)}
    nodes = []
    for node in sorted(_live(blueprint)):
        block = blueprint.blocks[node - 1]
        sources = tuple(maps[source] for source in block.inputs)
        joined = _join(sources, block.merge)
        maps[node] = _after(block, joined)
        nodes.append(Wiring(node, block, sources, joined, maps[node]))
    return tuple(nodes)


def _live(blueprint: Blueprint) -> set[int]:
    live = {len(blueprint.blocks)}
    for node in range(len(blueprint.blocks), 0, -1):
        if node in live:
            live.update(source for source in blueprint.blocks[node - 1].inputs if source > 0)
    return live


def _join(sources: tuple[Maps, ...], merge: str) -> Maps:
    channels = [source.channels for source in sources]
    side = min(source.side for source in sources)
    return Maps(sum(channels) if merge == "concat" else max(channels), side)


def _after(block: Block, joined: Maps) -> Maps:
    side = -(-joined.side // block.stride)
    return Maps(BLOCKS[block.kind].channels(block, joined), side)
