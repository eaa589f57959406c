"""The networks that a search may propose: choices for every gene, limits on size and cost."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

from evolution.genotype import Genotype, effective_genes
from robustkit.errors import ConfigError, did_you_mean
from robustkit.models import Cost, cost
from robustkit.models.blueprint import (
    ACTIVATIONS,
    BLOCKS,
    HEAD_POOLS,
    KINDS,
    MERGES,
    NORMS,
    POOLS,
    Block,
    Blueprint,
)

_NAMED: dict[str, Collection[str]] = {
    "kinds": BLOCKS,
    "norms": NORMS,
    "activations": ACTIVATIONS,
    "pools": POOLS,
    "merges": MERGES,
    "head_pools": HEAD_POOLS,
}
_ORDERED = {"channels": (1, 4096), "kernels": (1, 15), "hidden": (0, 8192)}


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """The choices for every gene, and the limits a network has to keep.

    `min_blocks` counts blocks with weights, `max_blocks` all of them; `max_inputs` is the number
    of earlier nodes that may feed one block; `max_params` counts parameters, `max_macs`
    multiply-accumulates per image. `channels`, `kernels` and `hidden` are ascending, since a
    mutation steps to a neighbour. Raises `ConfigError` naming the field that cannot be used.
    """

    min_blocks: int = 2
    max_blocks: int = 8
    max_inputs: int = 2
    max_params: int = 1_000_000
    max_macs: int = 50_000_000
    kinds: tuple[str, ...] = KINDS
    channels: tuple[int, ...] = (8, 16, 24, 32, 48, 64, 96, 128)
    kernels: tuple[int, ...] = (3, 5, 7)
    norms: tuple[str, ...] = NORMS
    activations: tuple[str, ...] = ACTIVATIONS
    pools: tuple[str, ...] = POOLS
    merges: tuple[str, ...] = MERGES
    head_pools: tuple[str, ...] = HEAD_POOLS
    hidden: tuple[int, ...] = (0, 64, 128)

    def __post_init__(self) -> None:
        for name, known in _NAMED.items():
            _check_named(name, getattr(self, name), known)
        for name, (low, high) in _ORDERED.items():
            _check_ordered(name, getattr(self, name), low, high)
        if any(kernel % 2 == 0 for kernel in self.kernels):
            raise ConfigError(f"search space: kernels must be odd, not {self.kernels}")
        if not self.learned_kinds:
            learned = [kind for kind in BLOCKS if BLOCKS[kind].learned]
            raise ConfigError(
                f"search space: kinds must name one of {', '.join(learned)}, not only "
                f"{', '.join(self.kinds)}"
            )
        if not 1 <= self.min_blocks <= self.max_blocks:
            raise ConfigError(
                "search space: 1 <= min_blocks <= max_blocks is needed, "
                f"not {self.min_blocks} and {self.max_blocks}"
            )
        for name in ("max_inputs", "max_params", "max_macs"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"search space: {name} must be at least 1, not {getattr(self, name)}"
                )

    @property
    def learned_kinds(self) -> tuple[str, ...]:
        """Return the kinds of this space that have weights."""
        return tuple(kind for kind in self.kinds if BLOCKS[kind].learned)

    @property
    def choices(self) -> dict[str, tuple[str, ...] | tuple[int, ...]]:
        """Return the choices for every gene of a block but its inputs, by the gene's name."""
        return {
            "kind": self.kinds,
            "channels": self.channels,
            "kernel": self.kernels,
            "stride": (1, 2),
            "norm": self.norms,
            "activation": self.activations,
            "pool": self.pools,
            "merge": self.merges,
        }

    def contains(self, genotype: Genotype) -> bool:
        """Return whether every gene with an effect is a choice and the graph of legal size.

        Parameters and MACs, which depend on the images, are left to `fits`.
        """
        if len(genotype.blocks) > self.max_blocks:
            return False
        live = genotype.pruned().blocks
        if sum(BLOCKS[block.kind].learned for block in live) < self.min_blocks:
            return False
        head = genotype.head
        return (
            head.pool in self.head_pools
            and head.hidden in self.hidden
            and (head.hidden == 0 or head.activation in self.activations)
            and all(self._allows(block) for block in genotype.blocks)
        )

    def fits(self, genotype: Genotype, input_shape: tuple[int, int, int], num_classes: int) -> bool:
        """Return whether this space contains `genotype` within its limits for images (C,H,W)."""
        if not self.contains(genotype):
            return False
        spent = _cost(genotype.blueprint(), input_shape, num_classes)
        return spent.params <= self.max_params and spent.macs <= self.max_macs

    def _allows(self, block: Block) -> bool:
        effective = effective_genes(block)
        return len(block.inputs) <= self.max_inputs and all(
            getattr(block, gene) in choices
            for gene, choices in self.choices.items()
            if gene in effective
        )


@lru_cache(maxsize=4096)
def _cost(blueprint: Blueprint, input_shape: tuple[int, int, int], num_classes: int) -> Cost:
    return cost(blueprint, input_shape, num_classes)


def _check_named(name: str, chosen: tuple[str, ...], known: Collection[str]) -> None:
    for choice in chosen:
        if choice not in known:
            hint = did_you_mean(str(choice), known)
            raise ConfigError(f"search space: unknown entry '{choice}' in {name}{hint}")
    if not chosen or len(set(chosen)) < len(chosen):
        raise ConfigError(
            f"search space: {name} must be distinct and at least one, not {list(chosen)}"
        )


def _check_ordered(name: str, chosen: tuple[int, ...], low: int, high: int) -> None:
    ascending = list(chosen) == sorted(set(chosen))
    if not chosen or not ascending or chosen[0] < low or chosen[-1] > high:
        raise ConfigError(
            f"search space: {name} must be ascending and in {low}..{high}, not {list(chosen)}"
        )
