"""How maps change over the epochs of a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from experiments.explain.scores import similarity
from robustkit import explain


def changes(maps: Mapping[int, Tensor]) -> list[dict[str, Any]]:
    """For each epoch of one method's maps (N,H,W), in order, their likeness to other epochs'.

    `final` is with the last epoch's, `previous` with those of the epoch before it among `maps`,
    None for the first. See `likeness`.
    """
    epochs = sorted(maps)
    final = maps[epochs[-1]]
    before = [None, *epochs]
    return [
        {
            "epoch": epoch,
            "final": likeness(maps[epoch], final),
            "previous": None if last is None else likeness(maps[epoch], maps[last]),
        }
        for last, epoch in zip(before, epochs, strict=False)
    ]


def likeness(first: Tensor, second: Tensor) -> dict[str, Any]:
    """`similarity` of maps (N,H,W), and Spearman's correlation of each of the N as `images`.

    None for an image one of whose maps is constant and has no ranks.
    """
    each = [
        explain.spearman(first[row : row + 1], second[row : row + 1]) for row in range(len(first))
    ]
    return {**similarity(first, second), "images": [found.mean for found in each]}
