"""The summary of the study of contribution maps."""

from __future__ import annotations

from itertools import product
from typing import Annotated

from msgspec import Meta

from experiments.studies.base import StudySummary
from robustkit.errors import RunError
from robustkit.runs.summaries import (
    Amount,
    Count,
    MeanShare,
    Result,
    check_has,
)
from robustkit.stats import Mean

SIGNS = ("positive", "negative")


class Trained(Result, frozen=True, kw_only=True):
    """A net, and how accurate it is where that can be told."""

    model: str
    test_acc: MeanShare | None
    n: Count


class Mask(Result, frozen=True, kw_only=True):
    """What a mask does to the score: to how much of a layer, how far, beyond a random one."""

    drop: Mean
    expected: Mean
    share: Mean
    lost: Mean
    beyond: Mean = Mean(value=None, low=None, high=None)


class Masks(Result, frozen=True, kw_only=True):
    """Masks by `LAYER/KIND`, likeness to Grad-CAM by layer."""

    n: Count
    layers: Annotated[list[str], Meta(min_length=1)]
    residual_max: Amount
    masks: dict[str, Mask]
    like_gradcam: dict[str, Mean]


class Objects(Result, frozen=True, kw_only=True):
    """Of pictures of two objects: how many have both on top, and whose half counts."""

    pairs: Count
    n: Count
    own: Mean


class Summary(StudySummary, frozen=True, kw_only=True):
    """The three results by name."""

    train: Trained
    masks: Masks
    objects: Objects


def check(summary: Summary, where: str) -> None:
    """Raise `RunError` where a layer has no masks, or no likeness to Grad-CAM."""
    check_masks(summary.masks, f"{where}: masks")


def check_masks(found: Masks, where: str) -> None:
    """Raise `RunError` where a layer has no masks, or no likeness to Grad-CAM."""
    check_has(found.like_gradcam, found.layers, f"{where}.like_gradcam")
    for layer, sign in product((*found.layers, "input"), SIGNS):
        names = (f"{layer}/{sign}", f"{layer}/random, as {sign}")
        check_has(found.masks, names, f"{where}.masks")
        if found.masks[names[0]].beyond.value is None and found.n:
            raise RunError(f"{where}.masks.{names[0]}: 'beyond' is missing")
