"""Inheritance of a parent network's trained weights.

For screening alone: inherited weights make a short training tell more about a child, and they also
favour whoever descends from long lines. Whatever is to be reported is trained from scratch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robustkit.errors import ModelError
from robustkit.models import Classifier
from robustkit.models.blueprint import BlueprintNet, Wiring


def inherit(child: Classifier, parents: Sequence[Classifier]) -> float:
    """Give `child` the weights of the parent that has the most for it, in place; their share.

    Blocks are matched in their order, kind with kind, such that as many weights as possible are
    taken over. Of a tensor whose sizes differ the common part is: leading channels, the middle of
    kernels. What no parent has stays as it was initialised. Raises `ModelError` for networks that
    are not of blueprints.
    """
    if not parents:
        return 0.0
    net = _blueprint_net(child)
    plans = [_plan(net, _blueprint_net(parent)) for parent in parents]
    shares = [sum(_common(mine, theirs) for mine, theirs in plan) for plan in plans]
    with torch.no_grad():
        for mine, theirs in plans[shares.index(max(shares))]:
            _take_over(mine, theirs)
    return max(shares) / sum(tensor.numel() for tensor in _tensors(net).values())


def _blueprint_net(model: Classifier) -> BlueprintNet:
    if not isinstance(model.net, BlueprintNet):
        raise ModelError(f"inherit: a network of a blueprint, not {type(model.net).__name__}")
    return model.net


def _plan(child: BlueprintNet, parent: BlueprintNet) -> list[tuple[Tensor, Tensor]]:
    """Return pairs of corresponding tensors, the child's and the parent's."""
    pairs = [
        pair
        for mine, theirs in _aligned(child, parent)
        for pair in _same_names(_node(child, mine), _node(parent, theirs))
    ]
    return pairs + _same_names(_head(child), _head(parent))


def _aligned(child: BlueprintNet, parent: BlueprintNet) -> list[tuple[Wiring, Wiring]]:
    """Return pairs of blocks in order: the longest common subsequence by shared weights."""
    rows, columns = child.wirings, parent.wirings
    worth = [[_worth(child, row, parent, column) for column in columns] for row in rows]
    best = [[0] * (len(columns) + 1) for _ in range(len(rows) + 1)]
    for i in reversed(range(len(rows))):
        for j in reversed(range(len(columns))):
            best[i][j] = max(best[i + 1][j], best[i][j + 1], best[i + 1][j + 1] + worth[i][j])
    pairs, i, j = [], 0, 0
    while i < len(rows) and j < len(columns):
        if best[i][j] == best[i + 1][j + 1] + worth[i][j] and worth[i][j]:
            pairs.append((rows[i], columns[j]))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
    return pairs


def _worth(child: BlueprintNet, mine: Wiring, parent: BlueprintNet, theirs: Wiring) -> int:
    if mine.block.kind != theirs.block.kind:
        return 0
    return sum(_common(*pair) for pair in _same_names(_node(child, mine), _node(parent, theirs)))


def _node(net: BlueprintNet, wiring: Wiring) -> dict[str, Tensor]:
    """Return a block's tensors and those of the join before it."""
    name = str(wiring.node)
    tensors = _tensors(net.nodes[name])
    if name in net.joins:
        tensors |= {f"join.{key}": value for key, value in _tensors(net.joins[name]).items()}
    return tensors


def _head(net: BlueprintNet) -> dict[str, Tensor]:
    """Return the head's tensors by module, so that heads of other kinds share no name."""
    make = "-".join(type(layer).__name__ for layer in net.head)
    side = net.wirings[-1].out.side if isinstance(net.head[0], nn.Flatten) else 1
    return {f"{make}.{side}.{key}": value for key, value in _tensors(net.head).items()}


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return weights and running statistics; counters of batches are not inherited."""
    return {
        key: tensor for key, tensor in module.state_dict().items() if tensor.is_floating_point()
    }


def _same_names(mine: dict[str, Tensor], theirs: dict[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    return [
        (tensor, theirs[key])
        for key, tensor in mine.items()
        if key in theirs and theirs[key].dim() == tensor.dim()
    ]


def _common(mine: Tensor, theirs: Tensor) -> int:
    """Return how many entries two tensors have in common."""
    return math.prod(map(min, mine.shape, theirs.shape))


def _take_over(mine: Tensor, theirs: Tensor) -> None:
    mine[_part(mine, theirs)] = theirs[_part(theirs, mine)]


def _part(tensor: Tensor, beside: Tensor) -> tuple[slice, ...]:
    """Return the part of `tensor` that `beside` has too: leading channels, a kernel's middle."""
    slices = []
    for axis, (size, other_size) in enumerate(zip(tensor.shape, beside.shape, strict=True)):
        common = min(size, other_size)
        first = (size - common) // 2 if tensor.dim() == 4 and axis >= 2 else 0
        slices.append(slice(first, first + common))
    return tuple(slices)
