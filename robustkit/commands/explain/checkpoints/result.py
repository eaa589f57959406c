"""What an explanation over a training left to be told: its summary, checked when it is read."""

from __future__ import annotations

from typing import Annotated, NotRequired, TypedDict

from msgspec import Meta

from robustkit.commands.explain.result import Likeness, Mean, Scores, check_scores
from robustkit.commands.explain.scores import CONTROLS
from robustkit.errors import RunError
from robustkit.runs import RunFolder
from robustkit.runs.summaries import Epoch, Share, check_has, check_length, read_summary, where_of


class Image(TypedDict):
    """An image and the class that is looked at, the same in every epoch."""

    index: str
    true: str | None
    target: str


class Answer(TypedDict):
    """What a checkpoint says of an image."""

    target: str
    predicted: str
    probability: Share


class Brief(TypedDict):
    """How good a map of one epoch is; the two controls have the areas alone."""

    deletion: Mean
    insertion: Mean
    sanity: NotRequired[Likeness]
    stability: NotRequired[Likeness]


class EpochTold(TypedDict):
    """One checkpoint: accuracy where it is known, answers, and scores where maps were checked."""

    epoch: Epoch
    val_acc: Share | None
    images: list[Answer]
    scores: dict[str, Brief] | None


class Change(TypedDict):
    """How alike one epoch's maps are to the last one's and, but for the first, the previous."""

    epoch: Epoch
    final: Likeness
    previous: Likeness | None


class Summary(TypedDict):
    """`summary.json` of an explanation over a training."""

    target_epoch: Epoch | None
    images: Annotated[list[Image], Meta(min_length=1)]
    epochs: Annotated[list[EpochTold], Meta(min_length=1)]
    changes: Annotated[dict[str, list[Change]], Meta(min_length=1)]
    scores: NotRequired[Scores]


def read(folder: RunFolder) -> Summary:
    """Return the summary; raises `RunError`, naming the entry, for what is no explanation's."""
    summary = read_summary(folder, Summary)
    for place, each in enumerate(summary["epochs"]):
        check_length(f"epochs[{place}].images", each["images"], len(summary["images"]), folder)
    epochs = [each["epoch"] for each in summary["epochs"]]
    if epochs != sorted(set(epochs)):
        raise RunError(f"{where_of(folder)}: epochs: not each once, in order")
    for name, found in summary["changes"].items():
        if [each["epoch"] for each in found] != epochs:
            raise RunError(f"{where_of(folder)}: changes.{name}: other epochs")
    if "scores" in summary:
        check_scores(summary["scores"], folder)
        _check_brief(summary, folder)
    return summary


def _check_brief(summary: Summary, folder: RunFolder) -> None:
    """Raise `RunError` unless every epoch has the last one's maps scored."""
    names = list(summary["epochs"][-1]["scores"] or {})
    if not names:
        raise RunError(f"{where_of(folder)}: epochs: the last one has no scores, which there are")
    for place, each in enumerate(summary["epochs"]):
        scores, where = each["scores"] or {}, f"epochs[{place}].scores"
        check_has(scores, names, f"{where_of(folder)}: {where}")
        for name, brief in scores.items():
            kinds = [] if name in CONTROLS else ["sanity", "stability"]
            check_has(brief, kinds, f"{where_of(folder)}: {where}.{name}")
