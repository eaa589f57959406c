"""A network described by data: a small directed graph of blocks and a head.

A `Blueprint` holds no input shape and no class count: the same blueprint builds a network for any
images. Node 0 is the image; node i (1, 2, …) is `blocks[i - 1]`; the last block feeds the head.
Every block names the earlier nodes that feed it, so a blueprint is acyclic by construction.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from robustkit.errors import ModelError, did_you_mean

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
        _choice("kind", self.kind, KINDS)
        _choice("norm", self.norm, NORMS)
        _choice("activation", self.activation, ACTIVATIONS)
        _choice("pool", self.pool, POOLS)
        _choice("merge", self.merge, MERGES)
        if not 1 <= self.channels <= 4096:
            raise ModelError(f"block: channels must be in 1..4096, not {self.channels}")
        if self.kernel not in range(1, 16, 2):
            raise ModelError(f"block: kernel must be odd and in 1..15, not {self.kernel}")
        if self.stride not in (1, 2):
            raise ModelError(f"block: stride must be 1 or 2, not {self.stride}")
        if not self.inputs or list(self.inputs) != sorted(set(self.inputs)):
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
        _choice("head pool", self.pool, HEAD_POOLS)
        _choice("head activation", self.activation, ACTIVATIONS)
        if not 0 <= self.hidden <= 8192:
            raise ModelError(f"head: hidden must be in 0..8192, not {self.hidden}")


@dataclass(frozen=True, kw_only=True)
class Blueprint:
    """Blocks in topological order and a head; `to_dict` and `from_dict` round-trip as JSON."""

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

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, strings and integers, ready for `json.dumps`."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Blueprint:
        """The inverse of `to_dict`; raises `ModelError` naming whatever does not fit."""
        _known("blueprint", plain, ("blocks", "head"))
        try:
            blocks = tuple(_block(each) for each in plain["blocks"])
            return cls(blocks=blocks, head=Head(**_checked(Head, plain["head"])))
        except (KeyError, TypeError) as error:
            raise ModelError(f"blueprint: not a description of a network ({error})") from None


def _block(plain: Mapping[str, Any]) -> Block:
    genes = _checked(Block, plain)
    return Block(**{**genes, "inputs": tuple(genes["inputs"])})


def _checked(owner: type[Block] | type[Head], plain: Mapping[str, Any]) -> dict[str, Any]:
    _known(owner.__name__.lower(), plain, tuple(each.name for each in fields(owner)))
    return dict(plain)


def _known(where: str, plain: Mapping[str, Any], names: tuple[str, ...]) -> None:
    for name in plain:
        if name not in names:
            raise ModelError(f"{where}: unknown entry '{name}'{did_you_mean(name, names)}")


def _choice(what: str, value: str, options: tuple[str, ...]) -> None:
    if value not in options:
        raise ModelError(f"block: unknown {what} '{value}'{did_you_mean(str(value), options)}")
