"""Which maps flow along a blueprint's edges: channels and side of every node, without torch."""

from __future__ import annotations

from dataclasses import dataclass

from robustkit.models.blueprint.kinds import BLOCKS
from robustkit.models.blueprint.spec import Block, Blueprint


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
    """The nodes that feed the head, directly or not, in order; the last one is the head's source.

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
