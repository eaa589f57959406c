"""The result of an evaluation under attack, as the program and `summary.json` have it."""

from __future__ import annotations

from typing import Annotated, Any, Self

from msgspec import UNSET, Meta, UnsetType

from robustkit.runs import RunFolder
from robustkit.runs.summaries import (
    Finding,
    PixelSpace,
    Published,
    Radius,
    Result,
    Seconds,
    Total,
    check_has,
    check_length,
    read_summary,
    where_of,
)
from robustkit.stats import Count, Estimate, KnownRate, Rate, Share


class RobustRate(Estimate, frozen=True, kw_only=True, rename={"value": "robust_acc"}):
    """The share of images that are classified correctly under attack."""

    value: Share
    n: Count = 0
    low: Share
    high: Share

    @classmethod
    def of(cls, rate: Rate, **others: Any) -> Self:
        """Return the rate of one image or more, with what else this result holds."""
        known = KnownRate.from_rate(rate)
        return cls(value=known.value, n=known.n, low=known.low, high=known.high, **others)


class Point(RobustRate, frozen=True, kw_only=True):
    """The robust accuracy at one radius: after all attacks, and after each in turn."""

    eps: Radius
    per_attack: dict[str, RobustRate]
    seconds: Seconds | UnsetType = UNSET


class ModelResult(RobustRate, frozen=True, kw_only=True):
    """The result of one model; its own rate is that at the largest radius."""

    clean_acc: Share
    clean: KnownRate
    curve: Annotated[list[Point], Meta(min_length=1)]
    diagnostics: list[Finding]
    per_attack: dict[str, RobustRate]
    notes: list[str] = []  # noqa: RUF012 - msgspec copies it
    published: Published | None = None
    warnings: list[Finding] = []  # noqa: RUF012


class Summary(Result, frozen=True, kw_only=True):
    """`summary.json` of an evaluation; those of older versions have no `pixel_space`."""

    n: Count
    norm: str
    eps: Annotated[list[Radius], Meta(min_length=1)]
    attacks: Annotated[list[str], Meta(min_length=1)]
    models: Annotated[dict[str, ModelResult], Meta(min_length=1)]
    pixel_space: PixelSpace | UnsetType = UNSET
    restarts: Count | UnsetType = UNSET
    seconds: Total


def read(folder: RunFolder) -> Summary:
    """Return the summary; raises `RunError`, naming the entry, for what is none of an attack."""
    summary = read_summary(folder, Summary)
    for name, model in summary.models.items():
        check_length(f"models.{name}.curve", model.curve, len(summary.eps), folder)
        for place, point in enumerate(model.curve):
            where = f"models.{name}.curve[{place}].per_attack"
            check_has(point.per_attack, summary.attacks, f"{where_of(folder)}: {where}")
    return summary
