"""Numbers that describe a network of the benchmark's space, for regression on them.

Gene shares say what a network is made of; these also say where: transfer depends on how early maps
shrink and on what the first block does to high frequencies, accuracy on depth and cost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from evolution.benchmark.measure import CLASSES, INPUT_SHAPE
from evolution.genes import gene_features
from evolution.genotype import Genotype
from robustkit.models import Cost, cost
from robustkit.models.blueprint import BLOCKS, KINDS, Wiring, wire

Floats = npt.NDArray[np.float64]

SIDES = (16, 8, 4, 2, 1)
"""Of the maps that convolutions give."""


def network_cost(genotype: Genotype) -> Cost:
    """Return parameters and MACs of a network for the benchmark's images."""
    return cost(genotype.blueprint(), INPUT_SHAPE, CLASSES)


def network_features(genotype: Genotype) -> dict[str, float]:
    """Return the numbers that describe a network, by name, always in the same order.

    `gene_features`, and: parameters and MACs (natural logarithm); depth in blocks with weights
    along the longest and the shortest path; receptive field of the output in pixels and its stride;
    per side of maps (16 … 1) the number of blocks with weights that give such maps and their mean
    channels; the first block's kind, kernel and stride; the share of reductions that average.
    """
    genes = {
        f"{feature.gene} {feature.value}": float(value)
        for feature, value in gene_features(genotype).items()
    }
    blueprint = genotype.blueprint()
    spent = cost(blueprint, INPUT_SHAPE, CLASSES)
    wirings = wire(blueprint, INPUT_SHAPE[0], INPUT_SHAPE[1])
    first, last = wirings[0], wirings[-1]
    return {
        **genes,
        "log params": math.log(spent.params),
        "log macs": math.log(spent.macs),
        **_paths(wirings),
        **_sides(wirings),
        **{f"first {kind}": float(first.block.kind == kind) for kind in KINDS},
        "first kernel": float(first.block.kernel),
        "first stride": float(first.block.stride),
        "first average": float(first.block.kind == "pool" and first.block.pool == "avg"),
        "log first channels": math.log(first.out.channels),
        "last side": float(last.out.side),
        "log last channels": math.log(last.out.channels),
        "last norm none": float(last.block.norm == "none"),
        "averaged reductions": _averaged(wirings),
    }


def feature_matrix(genotypes: Sequence[Genotype]) -> Floats:
    """Return the features of networks, (networks, features)."""
    rows = [list(network_features(genotype).values()) for genotype in genotypes]
    return np.array(rows, dtype=np.float64)


def _paths(wirings: Sequence[Wiring]) -> dict[str, float]:
    """Return depth, receptive field and stride along the paths from the image to the head."""
    longest, shortest = {0: 0}, {0: 0}
    field, stride = {0: 1}, {0: 1}
    for wiring in wirings:
        block, node = wiring.block, wiring.node
        step = int(BLOCKS[block.kind].learned)
        longest[node] = step + max(longest[source] for source in block.inputs)
        shortest[node] = step + min(shortest[source] for source in block.inputs)
        before = max(stride[source] for source in block.inputs)
        stride[node] = before * block.stride
        field[node] = max(field[source] for source in block.inputs) + _reach(wiring) * before
    node = wirings[-1].node
    return {
        "longest path": float(longest[node]),
        "shortest path": float(shortest[node]),
        "log receptive field": math.log(field[node]),
        "log stride": math.log(stride[node]),
    }


def _reach(wiring: Wiring) -> int:
    """Return by how many of its input's pixels a block widens the receptive field."""
    block = wiring.block
    if block.kind == "identity":
        return block.stride - 1
    if block.kind == "residual":
        return (block.kernel - 1) * (1 + block.stride)
    return block.kernel - 1 + (2 if block.kind == "inception" else 0)


def _sides(wirings: Sequence[Wiring]) -> dict[str, float]:
    found: dict[int, list[int]] = {side: [] for side in SIDES}
    for wiring in wirings:
        if BLOCKS[wiring.block.kind].learned:
            found[wiring.out.side].append(wiring.out.channels)
    return {
        **{f"blocks at {side}": float(len(channels)) for side, channels in found.items()},
        **{
            f"log channels at {side}": math.log(sum(channels) / len(channels)) if channels else 0.0
            for side, channels in found.items()
        },
    }


def _averaged(wirings: Sequence[Wiring]) -> float:
    """Return the share of reductions by an average: pools, identities and dense blocks."""
    reductions = [each.block for each in wirings if each.block.stride == 2]
    averaging = [
        block.kind in ("identity", "dense") or (block.kind == "pool" and block.pool == "avg")
        for block in reductions
    ]
    return sum(averaging) / max(1, len(averaging))
