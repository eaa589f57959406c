"""The summary of the study of over-training."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from experiments.studies.base import StudySummary
from robustkit.errors import RunError
from robustkit.runs.summaries import (
    Amount,
    Count,
    Difference,
    Digits,
    MeanShare,
    Result,
    check_has,
)

KINDS = ("gradcam", "saliency", "deconvnet", "guided", "guided-minus", "guided-gradcam")
"""Of maps that claims or curves are about."""


class Errors(Result, frozen=True, kw_only=True):
    """On one part of the data."""

    error: MeanShare
    loss: Amount


class Trained(Result, frozen=True, kw_only=True):
    """A checkpoint."""

    train: Errors
    test: Errors
    last_layer_norm: Amount


class Likeness(Result, frozen=True, kw_only=True):
    """Of maps to those of the reference; None where none varies."""

    spearman: Difference | None
    ssim: Difference | None


class Group(Result, frozen=True, kw_only=True):
    """Images of a group at a checkpoint."""

    n: Count
    entropy: Amount
    p_class: MeanShare
    maps: dict[str, Likeness]


Groups = dict[str, Group]
"""A net may be right about everything: then a group is empty, and left out."""


class Choice(Result, frozen=True, kw_only=True):
    """The checkpoint of lowest validation loss, counted from 1."""

    reference: Annotated[int, Meta(ge=1, le=10**6)]


class Chosen(Choice, frozen=True, kw_only=True):
    """The same, and the indices of the test images that are looked at, by group."""

    groups: dict[str, list[Count]]


class Arm(Result, frozen=True, kw_only=True):
    """Checkpoints by their numbers from 1, and the maps of each where they were made."""

    train: dict[Digits, Trained]
    choice: Choice
    maps: dict[Digits, Groups]


class Summary(StudySummary, frozen=True, kw_only=True):
    """By arm: with and without augmentation."""

    arms: Annotated[dict[str, Arm], Meta(max_length=50)]  # a panel each


class Shown(Result, frozen=True, kw_only=True):
    """The checkpoints of a strip."""

    shown: list[Count]


class Window(Likeness, frozen=True, kw_only=True):
    """A likeness as it was measured, with SSIM's window in pixels."""

    window: Count


class Seen(Result, frozen=True, kw_only=True):
    """A group as it was measured."""

    maps: dict[str, Window]


def check(summary: Summary, where: str) -> None:
    """Raise `RunError` where checkpoints or maps are missing that others are set beside."""
    check_has(summary.arms, ("augmented",), f"{where}: arms")
    for name, of in summary.arms.items():
        _check_arm(of, f"{where}: arms.{name}")


def _check_arm(of: Arm, where: str) -> None:
    count = len(of.train)
    if {int(number) for number in of.train} != set(range(1, count + 1)):
        raise RunError(f"{where}.train: checkpoints are not numbered from 1 to {count}")
    if of.choice.reference > count:
        reference = of.choice.reference
        raise RunError(f"{where}.choice.reference: {reference}, of {count} checkpoints")
    kinds: list[str] = []
    for number, groups in of.maps.items():
        check_has(groups, ("A",), f"{where}.maps.{number}")
        kinds = kinds or [*groups["A"].maps, *KINDS]
        for group, each in groups.items():
            check_has(each.maps, kinds, f"{where}.maps.{number}.{group}.maps")
