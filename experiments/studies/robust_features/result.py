"""The summary of the study of robust and non-robust features."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

from msgspec import Meta

from experiments.studies.base import StudySummary
from robustkit.runs.summaries import (
    Count,
    MeanShare,
    Result,
    check_has,
)
from robustkit.stats import Mean


class Trained(Result, frozen=True, kw_only=True):
    """Accuracy on n test images."""

    test_acc: MeanShare
    n: Count


class Alone(Result, frozen=True, kw_only=True):
    """What a net's gradients look like."""

    low: Mean
    image: Mean
    edges: Mean
    norm: Mean
    gradcam_edges: Mean


class Similar(Result, frozen=True, kw_only=True):
    """Likeness of two nets' maps."""

    signed: Mean
    absolute: Mean
    ssim: Mean


class Pair(Result, frozen=True, kw_only=True):
    """Two nets beside each other."""

    cosine: Mean
    cav: Similar
    gradcam: Similar


class Compared(Result, frozen=True, kw_only=True):
    """A comparison of all nets on n images, accuracies on the first `judged`."""

    n: Count
    judged: Count
    noise_low: MeanShare
    robust: dict[str, dict[str, MeanShare]]  # by net and radius, in 1/255
    alone: dict[str, Alone]
    beyond: dict[str, Alone]
    pairs: dict[str, Pair]


class Repeat(Result, frozen=True, kw_only=True):
    """One repetition."""

    train: dict[str, Trained]
    compare: Compared


class Summary(StudySummary, frozen=True, kw_only=True):
    """Repetitions by their seeds."""

    repeats: Annotated[dict[str, Repeat], Meta(min_length=1)]


def check(
    summary: Summary,
    where: str,
    nets: Collection[str],
    radii: Collection[str],
    pairs: Collection[str],
) -> None:
    """Raise `RunError` where a net, a radius or one of `pairs` of nets is missing."""
    others = [net for net in nets if net != "R"]
    for repeat, of in summary.repeats.items():
        place, seen = f"{where}: repeats.{repeat}", of.compare
        check_has(of.train, nets, f"{place}.train")
        check_has(seen.alone, nets, f"{place}.compare.alone")
        check_has(seen.beyond, others, f"{place}.compare.beyond")
        check_has(seen.robust, nets, f"{place}.compare.robust")
        for net in nets:
            check_has(seen.robust[net], radii, f"{place}.compare.robust.{net}")
        check_has(seen.pairs, pairs, f"{place}.compare.pairs")
