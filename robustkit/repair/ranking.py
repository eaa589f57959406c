"""The top of a ranking of weights, over all layers together or layer by layer."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

Scores = Mapping[str, Tensor]
Masks = dict[str, Tensor]


def top(scores: Scores, count: int, *, per_layer: bool = False) -> Masks:
    """Bool masks of the `count` weights of highest score; of each layer's, if `per_layer`.

    `scores` are float tensors by layer name. A score of zero is never among the top: such a weight
    has nothing to do with the matter. Ties go by layer name, then by index.
    """
    if per_layer:
        return {name: _top({name: each}, count)[name] for name, each in scores.items()}
    return _top(scores, count)


def _top(scores: Scores, count: int) -> Masks:
    names = sorted(scores)
    flat = torch.cat([scores[name].flatten() for name in names])
    chosen = torch.zeros_like(flat, dtype=torch.bool)
    chosen[torch.sort(flat, descending=True, stable=True).indices[:count]] = True
    chosen &= flat > 0
    found = divided(chosen, {name: scores[name] for name in names})
    return {name: found[name] for name in scores}


def divided(flat: Tensor, like: Scores) -> Masks:
    """One long vector cut into tensors of the shapes of `like`, in its order."""
    parts = torch.split(flat, [each.numel() for each in like.values()])
    return {name: part.view_as(like[name]) for name, part in zip(like, parts, strict=True)}


def both(first: Masks, second: Masks) -> Masks:
    """What is in both sets of weights."""
    return {name: mask & second[name] for name, mask in first.items()}


def without(first: Masks, second: Masks) -> Masks:
    """What is in the first set of weights and not in the second."""
    return {name: mask & ~second[name] for name, mask in first.items()}


def size(masks: Masks) -> int:
    """How many weights are in the set."""
    return sum(int(mask.sum()) for mask in masks.values())


def pareto_front(first: Tensor, second: Tensor) -> Tensor:
    """Bool (N,): the points that no other exceeds in one of two scores (N,) and reaches in both.

    Both are to be large. Equal points stand or fall together.
    """
    order = torch.argsort(second, descending=True, stable=True)
    order = order[torch.argsort(first[order], descending=True, stable=True)]
    high, level = first[order], second[order]
    # The best second score among points of a higher first one, and among those of the same.
    start = torch.searchsorted(-high, -high)
    best = level.cummax(dim=0).values
    before = torch.where(start > 0, best[(start - 1).clamp_min(0)], -torch.inf)
    front = torch.zeros_like(first, dtype=torch.bool)
    front[order] = (level > before) & (level == level[start])
    return front
