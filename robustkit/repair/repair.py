"""The repair of a model: from its failures to a patch, and the effect of the patch."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import overload

from msgspec import structs
from torch import Tensor, nn

from robustkit.attacks import predicted_classes
from robustkit.data import ImageSet
from robustkit.errors import RepairError
from robustkit.repair.config import ARACHNE, RepairConfig
from robustkit.repair.localise import Localisation, localise
from robustkit.repair.patch import Patch, make_patch
from robustkit.repair.search import OnIteration, Search, SearchResult, search
from robustkit.repair.sets import RepairSets, failures, gather, repair_sets
from robustkit.repair.swarm import CONSTRICTED, SwarmConfig
from robustkit.runs.summaries import Count, Result, Seconds, Share
from robustkit.stats import Rate, wilson

Interval = tuple[Share | None, Share | None]


class RepairMetrics(Result, frozen=True, kw_only=True):
    """The effect of a patch on `n` images; rates are fractions, None over no image.

    RR = repaired / |neg| and BR = broken / |pos| have 95 % Wilson intervals.
    """

    n: Count
    n_neg: Count
    n_pos: Count
    acc_before: Share
    acc_after: Share
    rr: Share | None
    br: Share | None
    rr_interval: Interval
    br_interval: Interval


class RepairResult(RepairMetrics, frozen=True, kw_only=True):
    """The metrics of the chosen run on the images repaired on, and on others in `held_out`.

    `n_deg` and `n_imp` are None without training history; `localised` counts chosen weights by
    layer, `changed` those that the patch changes.
    """

    n_deg: Count | None
    n_imp: Count | None
    held_out: RepairMetrics | None
    localised: dict[str, Count]
    changed: Count
    iterations: Count
    repaired_indices: list[Count]
    broken_indices: list[Count]
    seconds: Seconds


@dataclass(frozen=True, eq=False)
class PatchEffect:
    """Predictions on N images before and after a repair; all int64 (N,), `neg` bool (N,).

    `neg` are the failures that were to be repaired.

    >>> import torch
    >>> labels, before = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 0])
    >>> after = torch.tensor([0, 0, 0, 0])
    >>> metrics = PatchEffect(labels, before, after, neg=before != labels).metrics()
    >>> metrics.rr, metrics.br, metrics.acc_before, metrics.acc_after
    (0.5, 0.5, 0.5, 0.5)
    """

    labels: Tensor
    before: Tensor
    after: Tensor
    neg: Tensor

    @property
    def pos(self) -> Tensor:
        """Whether each image was right before the repair, bool (N,)."""
        return self.before == self.labels

    @property
    def repaired(self) -> Tensor:
        """Whether each image is a failure to be repaired that is right now, bool (N,)."""
        return self.neg & (self.after == self.labels)

    @property
    def broken(self) -> Tensor:
        """Whether each image was right before and is wrong now, bool (N,)."""
        return self.pos & (self.after != self.labels)

    def metrics(self) -> RepairMetrics:
        """Return accuracies, repair rate and break rate."""
        n_neg, n_pos = int(self.neg.sum()), int(self.pos.sum())
        rr, br = _rate(int(self.repaired.sum()), n_neg), _rate(int(self.broken.sum()), n_pos)
        return RepairMetrics(
            n=len(self.labels),
            n_neg=n_neg,
            n_pos=n_pos,
            acc_before=float(self.pos.double().mean()),
            acc_after=float((self.after == self.labels).double().mean()),
            rr=rr.value,
            br=br.value,
            rr_interval=(rr.low, rr.high),
            br_interval=(br.low, br.high),
        )


def accuracy_after(n_pos: float, n_neg: float, rr: float, br: float) -> float:
    """Return ACC = (pos + RR·neg - BR·pos) / (pos + neg), all as fractions.

    The identity that ties the published Table 3 to its Table 1: of GTSRB's images 12,140 are right
    and 490 wrong, and 96.425 % are right after repair by history.

    >>> round(accuracy_after(12140, 490, rr=0.09776, br=0.00077), 4)
    0.9643
    """
    return (n_pos + rr * n_neg - br * n_pos) / (n_pos + n_neg)


def _rate(hits: int, among: int) -> Rate:
    return wilson(hits / among if among else 0.0, among)


@dataclass(frozen=True, eq=False)
class Run:
    """One run's patch, its search (None for gradient descent), and the effect of the patch.

    `effect` is on the images repaired on, `held_out` on others, None where there are none.
    """

    patch: Patch
    search: SearchResult | None
    iterations: int
    effect: PatchEffect
    held_out: PatchEffect | None


@dataclass(frozen=True, eq=False)
class Repair:
    """All runs of a repair; `best` is the index of the one whose patch is to be used.

    It is chosen on the images repaired on alone. `scored_by` names the scorer of candidates.
    """

    sets: RepairSets
    localisation: Localisation | None
    runs: tuple[Run, ...]
    best: int
    scored_by: str
    seconds: float

    @property
    def patch(self) -> Patch:
        """The chosen run's patch."""
        return self.runs[self.best].patch

    @property
    def result(self) -> RepairResult:
        """The metrics of the chosen run."""
        run = self.runs[self.best]
        sets, history = self.sets.counts(), self.sets.history
        return RepairResult(
            **structs.asdict(run.effect.metrics()),
            n_deg=sets["n_deg"] if history else None,
            n_imp=sets["n_imp"] if history else None,
            held_out=None if run.held_out is None else run.held_out.metrics(),
            localised={} if self.localisation is None else self.localisation.selection.counts(),
            changed=len(run.patch),
            iterations=run.iterations,
            repaired_indices=_indices(run.effect.repaired),
            broken_indices=_indices(run.effect.broken),
            seconds=self.seconds,
        )


@overload
def repair(
    model: nn.Module,
    config: RepairConfig,
    images: ImageSet,
    held_out: ImageSet | None = ...,
    *,
    previous: nn.Module | None = ...,
    swarm: SwarmConfig = ...,
    resume: Search | None = ...,
    on_iteration: OnIteration = ...,
) -> Repair: ...
@overload
def repair(
    model: nn.Module,
    config: RepairConfig = ...,
    *,
    failures: object,
    held_out: object | None = ...,
    previous: nn.Module | None = ...,
    swarm: SwarmConfig = ...,
    resume: Search | None = ...,
    on_iteration: OnIteration = ...,
) -> Repair: ...
def repair(
    model: nn.Module,
    config: RepairConfig | None = None,
    images: ImageSet | None = None,
    held_out: object | None = None,
    *,
    failures: object | None = None,
    previous: nn.Module | None = None,
    swarm: SwarmConfig = CONSTRICTED,
    resume: Search | None = None,
    on_iteration: OnIteration = lambda search: None,
) -> Repair:
    """Localise on `images`, search with a swarm, and evaluate by ordinary forward passes.

    Either `config` and `images`, a set of which the model gets some wrong and some right, with
    `held_out` images to evaluate on; or `failures`, any set (see `data.as_image_set`) of images
    that the model gets wrong, whose default `config` is ARACHNE, which needs no training history.
    Then what must not break is taken from `held_out`, any set, too: half of its images that the
    model gets right are repaired on, the rest are for evaluation, and copies of failures are left
    out (see `gather`). Masks and indices are of the images repaired on, the failures first.

    `previous` is the checkpoint before `model`, which the history method needs. `model` is any
    module from images in [0,1] to logits, and never changed. Where no candidate is fitter than the
    model as it is, the patch is empty. Raises `RepairError` where there is nothing to repair or
    nothing to change.
    """
    if (images is None) == (failures is None):
        raise RepairError("give repair either images, with a config, or failures")
    evaluated: ImageSet | None
    if failures is not None:
        config = ARACHNE if config is None else config
        images, evaluated = gather(model, failures, held_out, config.seed)
    elif config is None or not isinstance(held_out, ImageSet | None):
        raise RepairError("repair of images takes a config, and an ImageSet to evaluate on")
    else:
        evaluated = held_out
    assert images is not None
    began = time.perf_counter() - (0.0 if resume is None else resume.seconds)
    sets, located = locate(model, config, images, previous)
    results, scored_by = search(
        model,
        images,
        sets,
        located.selection,
        config,
        swarm,
        resume=resume,
        on_iteration=on_iteration,
    )
    seconds = time.perf_counter() - began
    return conclude(
        model, config, images, evaluated, (sets, located), (results, scored_by), seconds
    )


def locate(
    model: nn.Module, config: RepairConfig, images: ImageSet, previous: nn.Module | None
) -> tuple[RepairSets, Localisation]:
    """Return the images to repair and the chosen weights: what comes before the search."""
    sets = repair_sets(model, images, previous, labels=config.labels, pairs=config.pairs)
    return sets, localise(model, images, sets, config, previous)


def conclude(
    model: nn.Module,
    config: RepairConfig,
    images: ImageSet,
    held_out: ImageSet | None,
    localised: tuple[RepairSets, Localisation],
    searched: tuple[Sequence[SearchResult], str],
    seconds: float,
) -> Repair:
    """Evaluate the results of all runs and choose the patch: what comes after the search.

    `localised` is from `locate`, `searched` from `search`; `seconds` is what they took.
    """
    (sets, located), (results, scored_by) = localised, searched
    patches = [make_patch(model, located.selection, result.values) for result in results]
    evaluated = evaluate_patches(
        model, patches, images, held_out, sets, config.labels, config.pairs
    )
    runs = tuple(
        replace(run, search=result, iterations=result.iterations)
        for run, result in zip(evaluated, results, strict=True)
    )
    best = max(range(len(runs)), key=lambda run: _gain(results[run]))
    return Repair(sets, located, runs, best, scored_by, seconds)


def _gain(result: SearchResult) -> float:
    """Return the gain in fitness: runs see different successes and start from different values."""
    return result.fitness - result.original if result.values is not None else -math.inf


def evaluate_patches(
    model: nn.Module,
    patches: Sequence[Patch],
    images: ImageSet,
    held_out: ImageSet | None,
    sets: RepairSets,
    labels: Sequence[str] = (),
    pairs: Sequence[str] = (),
) -> list[Run]:
    """Return the effect of each patch on predictions on `images` and on `held_out`."""
    others = None
    if held_out is not None:
        before = predicted_classes(model, held_out.images)
        others = (before, failures(before, held_out, labels, pairs))
    runs = []
    for patch in patches:
        repaired = patch.apply(model)
        after = predicted_classes(repaired, images.images)
        effect = PatchEffect(images.labels, sets.predicted, after, sets.neg)
        outside = None
        if held_out is not None and others is not None:
            after = predicted_classes(repaired, held_out.images)
            outside = PatchEffect(held_out.labels, others[0], after, others[1])
        runs.append(Run(patch, None, 0, effect, outside))
    return runs


def _indices(mask: Tensor) -> list[int]:
    return [int(index) for index in mask.nonzero().flatten()]
