"""Kinds of blocks by name: how each is made, and which of a block's genes matter to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from robustkit.errors import ModelError
from robustkit.registry import Registry

if TYPE_CHECKING:
    from robustkit.models.blueprint.shapes import Maps, Wiring
    from robustkit.models.blueprint.spec import Block

OF_A_LAYER = ("channels", "kernel", "norm", "activation")


def own_channels(block: Block, joined: Maps) -> int:
    """A block gives as many channels as its gene says."""
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
