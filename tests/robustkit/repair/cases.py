"""A net with its sets of images, and localisation the slow way: sets of weights, one by one."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from robustkit.data import ImageSet
from robustkit.models import Classifier
from robustkit.repair import (
    Localisation,
    RepairConfig,
    RepairSets,
    Selection,
    impacts,
    localise,
    repairable,
)
from tests.robustkit.repair.nets import mixed_net, noise, parameter

Weight = tuple[str, int]
Scores = Mapping[str, Tensor]
COUNT = 40
LINEAR = {"5", "7"}
CONV = {"0", "2"}
NAMED = {
    "last": {"7"},
    "before-last": {"5"},
    "linear": LINEAR,
    "conv": CONV,
    "both": LINEAR | CONV,
    "2": {"2"},
}


SIZES = {"0": 27, "2": 108, "5": 448, "7": 28}


def slow_top(scores: Scores, count: int, ranking: str) -> set[Weight]:
    """The first `count` by (score descending, layer name, index), zeros left out."""
    ranked = sorted(
        (-score, name, index)
        for name, each in scores.items()
        for index, score in enumerate(each.flatten().tolist())
    )
    if ranking == "pooled":
        heads = ranked[:count]
    else:
        heads = [row for name in scores for row in [r for r in ranked if r[1] == name][:count]]
    return {(name, index) for score, name, index in heads if score < 0}


@dataclass
class Slow:
    """The sets that Equation 5 is made of."""

    deg: set[Weight]
    diff: set[Weight]
    imp: set[Weight]
    chosen: set[Weight]


def slow_equation_5(case: Case, config: RepairConfig, count: int) -> Slow:
    layers = repairable(case.model, config.layers)
    deg = impacts(case.model, at(case.images, case.sets.deg), layers)
    imp = impacts(case.model, at(case.images, case.sets.imp), layers)
    moved = {
        name: (layer.weight - parameter(case.previous, name)).detach().abs()
        for name, layer in layers.items()
    }
    sides = []
    for each in (deg, imp):
        backward = slow_top(each.backward, count, config.ranking)
        forward = slow_top(each.forward, count, config.ranking)
        sides.append(
            {"backward": backward, "forward": forward, "both": backward & forward}[config.impacts]
        )
    diff = slow_top(moved, count, config.ranking)
    chosen = set(sides[0])
    if config.use_diff:
        chosen &= diff
    if config.use_imp:
        chosen -= sides[1]
    return Slow(sides[0], diff, sides[1], chosen)


def slow_front(points: list[tuple[float, float]]) -> list[bool]:
    """A point is off the front where another is at least as good in both and better in one."""
    return [
        not any(q[0] >= p[0] and q[1] >= p[1] and (q[0] > p[0] or q[1] > p[1]) for q in points)
        for p in points
    ]


@dataclass
class Case:
    """A net, the checkpoint before it, and images sorted by hand."""

    model: Classifier
    previous: Classifier
    images: ImageSet
    sets: RepairSets


def make_case(
    deg: range = range(10), imp: range = range(20, 32), neg: range = range(14), seed: int = 0
) -> Case:
    """Images `neg` are failures, all others right; `deg` and `imp` are indices too."""
    model = mixed_net(seed)
    previous = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for each in previous.parameters():
            each.add_(0.1 * torch.randn(each.shape, generator=generator))
    return Case(model, previous, noise(COUNT, seed=seed), sets_of(deg, imp, neg))


def sets_of(deg: range, imp: range, neg: range = range(14)) -> RepairSets:
    masks = [torch.tensor([i in each for i in range(COUNT)]) for each in (neg, deg, imp)]
    return RepairSets(
        torch.zeros(COUNT, dtype=torch.int64), masks[0], ~masks[0], masks[1], masks[2]
    )


def at(images: ImageSet, mask: Tensor) -> ImageSet:
    return images.subset(torch.tensor([i for i in range(COUNT) if mask[i]]))


def found(case: Case, config: RepairConfig) -> Localisation:
    return localise(case.model, case.images, case.sets, config, case.previous)


def weights(selection: Selection) -> set[Weight]:
    """What was chosen; the indices must ascend, and no layer be listed in vain."""
    for each in selection.indices.values():
        assert each.dtype == torch.int64
        assert len(each)
        assert bool((each[1:] > each[:-1]).all())
    return {(name, int(index)) for name, each in selection.indices.items() for index in each}
