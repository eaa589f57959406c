"""What a finished evaluation left to be told: its summary, checked when it is read."""

from __future__ import annotations

from typing import Annotated, NotRequired, TypedDict

from msgspec import Meta

from robustkit.runs import RunFolder
from robustkit.runs.summaries import (
    Count,
    Finding,
    KnownRate,
    PixelSpace,
    Radius,
    Share,
    Total,
    check_has,
    check_length,
    read_summary,
    where_of,
)


class Accuracy(TypedDict):
    """A robust accuracy with its interval."""

    robust_acc: Share
    n: NotRequired[Count]
    low: Share
    high: Share


class Point(Accuracy):
    """The robust accuracy at one radius: after all attacks, and after each in turn."""

    eps: Radius
    per_attack: dict[str, Accuracy]


class Model(TypedDict):
    """What was found of one model; those of older versions have no `warnings`."""

    clean_acc: Share
    clean: KnownRate
    curve: Annotated[list[Point], Meta(min_length=1)]
    diagnostics: list[Finding]
    warnings: NotRequired[list[Finding]]


class Summary(TypedDict):
    """`summary.json` of an evaluation; those of older versions have no `pixel_space`."""

    n: Count
    norm: str
    eps: Annotated[list[Radius], Meta(min_length=1)]
    attacks: Annotated[list[str], Meta(min_length=1)]
    models: Annotated[dict[str, Model], Meta(min_length=1)]
    pixel_space: NotRequired[PixelSpace]
    seconds: Total


def read(folder: RunFolder) -> Summary:
    """Return the summary; raises `RunError`, naming the entry, for what is none of an attack."""
    summary = read_summary(folder, Summary)
    for name, model in summary["models"].items():
        check_length(f"models.{name}.curve", model["curve"], len(summary["eps"]), folder)
        for place, point in enumerate(model["curve"]):
            where = f"models.{name}.curve[{place}].per_attack"
            check_has(point["per_attack"], summary["attacks"], f"{where_of(folder)}: {where}")
    return summary
