"""What a finished explanation left to be told: its summary, checked when it is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, NotRequired, TypedDict

from msgspec import Meta

from robustkit.commands.explain.scores import CONTROLS
from robustkit.errors import RunError
from robustkit.runs import RunFolder
from robustkit.runs.summaries import (
    Amount,
    Count,
    MeanShare,
    Number,
    PixelSpace,
    Real,
    Share,
    check_has,
    check_length,
    read_settings,
    read_summary,
    where_of,
)


class Settings(TypedDict):
    """What the report says of the settings by itself."""

    method: list[str]


class OtherImage(TypedDict):
    """What the other model says of an image."""

    predicted: str
    score: Real
    probability: Share


class Image(TypedDict):
    """An image, the class that is looked at, and what the model says."""

    index: str
    true: str | None
    predicted: str
    target: str
    score: Real
    probability: Share
    residual_max: Amount | None
    other: OtherImage | None


class Mean(TypedDict):
    """A mean over images, null without one, with its interval, null for a single one.

    Of correlations, and how many maps were `constant` and have none.
    """

    mean: Real | None
    low: Real | None
    high: Real | None
    constant: NotRequired[Count]


class Area(Mean):
    """The area under a curve of probabilities, and the mean curve."""

    curve: Annotated[list[MeanShare], Meta(min_length=2)]


class Ssim(Mean):
    """The structural similarity, within a window of so many pixels."""

    window: Number


class Likeness(TypedDict):
    """How alike maps are: Spearman's correlation, that of magnitudes, and SSIM."""

    signed: Mean
    absolute: Mean
    ssim: Ssim


class Sanity(Likeness):
    """Likeness to the map of a random net, and layer by layer on the way there."""

    cascading: Annotated[dict[str, Likeness], Meta(min_length=1)]


class Missed(TypedDict):
    """By how much maps miss the score that they divide."""

    mean: Amount


class Score(TypedDict):
    """How good a map is; the two controls have the curves alone."""

    deletion: Area
    insertion: Area
    sanity: NotRequired[Sanity]
    stability: NotRequired[Likeness]
    completeness: NotRequired[Missed | None]


Scores = dict[str, Score]


class MaskedImage(TypedDict):
    """What masking does to an image; `predicted` is null where nothing foretells it."""

    share: Share
    before: Real
    after: Real
    predicted: Real | None
    top_before: list[str]
    top_after: list[str]


class Mask(TypedDict):
    """The masking check."""

    at: str
    what: str
    fill: Real
    quantile: Real
    images: list[MaskedImage]


class Transfer(TypedDict):
    """Of which pair of nets the images are; see `robustkit.commands.explain.subject`."""

    source: str
    target: str
    which: str
    attacked: bool
    found: Count
    fooling: Count


class Summary(TypedDict):
    """`summary.json` of one model's explanation; what was not asked for is not there."""

    images: Annotated[list[Image], Meta(min_length=1)]
    pixel_space: NotRequired[PixelSpace]
    transfer: NotRequired[Transfer]
    contrast: NotRequired[Annotated[dict[str, Likeness], Meta(min_length=1)]]
    mask: NotRequired[Mask]
    scores: NotRequired[Scores]


def read(folder: RunFolder) -> Summary:
    """Return the summary; raises `RunError`, naming the entry, for what is no explanation's."""
    summary = read_summary(folder, Summary)
    if "mask" in summary:
        check_length("mask.images", summary["mask"]["images"], len(summary["images"]), folder)
    check_scores(summary.get("scores"), folder)
    return summary


def read_methods(folder: RunFolder) -> list[str]:
    """Return the maps of the settings; raises `RunError` where they are of another kind."""
    return read_settings(folder, Settings)["method"]


def check_scores(scores: Scores | None, folder: RunFolder) -> None:
    """Raise `RunError` where there is no map besides the controls, or one is not fully scored."""
    if scores is None:
        return
    layers: Mapping[str, Likeness] | None = None
    for name, each in scores.items():
        if name in CONTROLS:
            continue
        check_has(
            each,
            ["sanity", "stability", "completeness"],
            f"{where_of(folder)}: scores.{name}",
        )
        found = each["sanity"]["cascading"]
        layers = found if layers is None else layers
        where = f"scores.{name}.sanity.cascading"
        check_has(found, list(layers), f"{where_of(folder)}: {where}")
        check_length(where, list(found), len(layers), folder)
    if layers is None:
        raise RunError(f"{where_of(folder)}: scores: no map but {' and '.join(CONTROLS)}")
