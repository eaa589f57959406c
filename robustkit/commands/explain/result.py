"""The results of an explanation, as the program and `summary.json` have them.

`Summary` is that of one model, `CheckpointsSummary` that of the checkpoints of a training.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Self, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType

from robustkit.errors import RunError
from robustkit.reading import printable
from robustkit.runs import RunFolder
from robustkit.runs.summaries import (
    Amount,
    Cosine,
    Count,
    Epoch,
    MeanShare,
    Number,
    PixelSpace,
    Real,
    Result,
    Share,
    check_has,
    check_length,
    read_settings,
    read_summary,
    where_of,
)
from robustkit.stats import Estimate, Mean

Taken = TypeVar("Taken", bound=Struct)

CONTROLS = ("random", "edges")  # maps that know nothing of the model: only their curves are taken


class OtherPrediction(Result, frozen=True, kw_only=True):
    """The prediction of the other model for an image, and the target's score there."""

    predicted: str
    score: Real
    probability: Share


class Image(Result, frozen=True, kw_only=True):
    """An image, the target class whose score is explained, and the model's prediction.

    `true` is None for image files. `residual_max` is the largest amount by which CAV's
    contributions miss the score at any layer, None where CAV has no convention for the model.
    """

    index: str
    true: str | None
    predicted: str
    target: str
    score: Real
    probability: Share
    residual_max: Amount | None
    other: OtherPrediction | None


class MeanSimilarity(Mean, frozen=True, kw_only=True):
    """A mean over images; `constant` maps have no ranks and are counted instead."""

    constant: Count | UnsetType = UNSET


class MeanSsim(MeanSimilarity, frozen=True, kw_only=True):
    """The mean structural similarity; `window` is the side of its window in pixels."""

    window: Number


class MapSimilarity(Result, frozen=True, kw_only=True):
    """How similar two models' or epochs' maps of the same images are.

    `signed` is Spearman's rank correlation of the maps, `absolute` that of their magnitudes.
    """

    signed: MeanSimilarity
    absolute: MeanSimilarity
    ssim: MeanSsim


class Area(Mean, frozen=True, kw_only=True):
    """The mean area under curves of the target's probability, and the mean `curve`."""

    curve: Annotated[list[MeanShare], Meta(min_length=2)]


class Sanity(MapSimilarity, frozen=True, kw_only=True):
    """The similarity to the maps of a model whose weights are all random.

    `cascading` has it after each layer, with all layers behind it random too; `independent` with
    that layer alone random.
    """

    cascading: Annotated[dict[str, MapSimilarity], Meta(min_length=1)]
    independent: dict[str, MapSimilarity] | UnsetType = UNSET


class Completeness(Estimate, frozen=True, kw_only=True, rename={"value": "mean"}):
    """The mean absolute difference between the sum of a map and the score that it divides."""

    value: Amount
    n: Count = 0
    low: Real | None = None
    high: Real | None = None


class Score(Result, frozen=True, kw_only=True):
    """How good the maps of one method are; the controls have the two curves only.

    `completeness` is None for methods whose maps do not add up to anything.
    """

    deletion: Area
    insertion: Area
    sanity: Sanity | UnsetType = UNSET
    stability: MapSimilarity | UnsetType = UNSET
    completeness: Completeness | UnsetType | None = UNSET


Scores = dict[str, Score]


class MaskedImage(Result, frozen=True, kw_only=True):
    """The effect of masking on one image.

    `predicted` is the score that a linear model would have, None where CAV has no convention.
    """

    share: Share
    before: Real
    after: Real
    predicted: Real | None
    top_before: list[str]
    top_after: list[str]


class Masking(Result, frozen=True, kw_only=True):
    """The masking check: what was disabled where, and the effect on every image."""

    at: str
    what: str
    fill: Real
    quantile: Real
    images: list[MaskedImage]


class TransferOrigin(Result, frozen=True, kw_only=True):
    """The pair of models of a transfer evaluation whose images are explained.

    Of the `fooling` images on which the attack fools the source, `found` are of the kind `which`.
    """

    source: str
    target: str
    which: str
    attacked: bool
    found: Count
    fooling: Count
    set: str | UnsetType = UNSET


class Summary(Result, frozen=True, kw_only=True):
    """`summary.json` of the explanation of one model."""

    images: Annotated[list[Image], Meta(min_length=1)]
    pixel_space: PixelSpace | UnsetType = UNSET
    transfer: TransferOrigin | UnsetType = UNSET
    contrast: Annotated[dict[str, MapSimilarity], Meta(min_length=1)] | UnsetType = UNSET
    mask: Masking | UnsetType = UNSET
    scores: Scores | UnsetType = UNSET


class CheckpointResult(Result, frozen=True, kw_only=True):
    """The result of one checkpoint in the ledger, which sorts the names of methods and layers.

    `layers` are those of the sanity check in their own order, from the last one back.
    """

    images: list[Image]
    scores: Scores | UnsetType = UNSET
    layers: list[str] | UnsetType = UNSET


class ImageTarget(Result, frozen=True, kw_only=True):
    """An image and its target class, the same in every epoch."""

    index: str
    true: str | None
    target: str


class ImagePrediction(Result, frozen=True, kw_only=True):
    """The prediction of one checkpoint for an image."""

    index: str | UnsetType = UNSET
    target: str
    predicted: str
    score: Real | UnsetType = UNSET
    probability: Share
    residual_max: Amount | UnsetType | None = UNSET


class BriefScore(Result, frozen=True, kw_only=True):
    """A `Score` without its curves and single layers."""

    deletion: Mean
    insertion: Mean
    sanity: MapSimilarity | UnsetType = UNSET
    stability: MapSimilarity | UnsetType = UNSET
    completeness: Completeness | UnsetType | None = UNSET

    @classmethod
    def from_score(cls, score: Score) -> Self:
        """Return the brief form of a score."""
        sanity = score.sanity
        return cls(
            deletion=take_fields(Mean, score.deletion),
            insertion=take_fields(Mean, score.insertion),
            sanity=sanity if sanity is UNSET else take_fields(MapSimilarity, sanity),
            stability=score.stability,
            completeness=score.completeness,
        )


class EpochResult(Result, frozen=True, kw_only=True):
    """One checkpoint: accuracy where it is known, predictions, scores where maps are checked."""

    epoch: Epoch
    val_acc: Share | None
    images: list[ImagePrediction]
    scores: dict[str, BriefScore] | None


class ChangeSimilarity(MapSimilarity, frozen=True, kw_only=True):
    """The similarity of two epochs' maps, and the signed rank correlation of each of the `images`.

    It is None for an image one of whose maps is constant.
    """

    images: list[Cosine | None] | UnsetType = UNSET


class Change(Result, frozen=True, kw_only=True):
    """The similarity of one epoch's maps to the last one's and, but for the first, the previous."""

    epoch: Epoch
    final: ChangeSimilarity
    previous: ChangeSimilarity | None


class CheckpointsSummary(Result, frozen=True, kw_only=True):
    """`summary.json` of the explanation of a training's checkpoints.

    `target_epoch` is the epoch whose predictions are the targets, None where they are given.
    `scores` are those of the last epoch.
    """

    target: str | UnsetType = UNSET
    target_epoch: Epoch | None
    images: Annotated[list[ImageTarget], Meta(min_length=1)]
    epochs: Annotated[list[EpochResult], Meta(min_length=1)]
    changes: Annotated[dict[str, list[Change]], Meta(min_length=1)]
    scores: Scores | UnsetType = UNSET


class _Settings(Result, frozen=True):
    method: list[str]


def read(folder: RunFolder) -> Summary:
    """Return the summary of one model's explanation; raises `RunError`, naming the entry."""
    summary = read_summary(folder, Summary)
    if summary.mask is not UNSET:
        check_length("mask.images", summary.mask.images, len(summary.images), folder)
    if summary.scores is not UNSET:
        _check_scores(summary.scores, folder)
    return summary


def read_methods(folder: RunFolder) -> list[str]:
    """Return the maps of the settings; raises `RunError` where they are of another type."""
    return read_settings(folder, _Settings).method


def read_checkpoints(folder: RunFolder) -> CheckpointsSummary:
    """Return the summary of a training's explanation; raises `RunError`, naming the entry."""
    summary = read_summary(folder, CheckpointsSummary)
    for place, result in enumerate(summary.epochs):
        check_length(f"epochs[{place}].images", result.images, len(summary.images), folder)
    epochs = [result.epoch for result in summary.epochs]
    if epochs != sorted(set(epochs)):
        raise RunError(f"{where_of(folder)}: epochs: not each once, in order")
    for name, changes in summary.changes.items():
        if [change.epoch for change in changes] != epochs:
            raise RunError(f"{where_of(folder)}: changes.{name}: other epochs")
    if summary.scores is not UNSET:
        _check_scores(summary.scores, folder)
        _check_brief_scores(summary, folder)
    return summary


def take_fields(kind: type[Taken], source: Struct, **others: Any) -> Taken:
    """Return a `kind` with the fields that `source` has of it, and `others`."""
    known = {name: getattr(source, name) for name in source.__struct_fields__}
    return kind(**{name: known[name] for name in kind.__struct_fields__ if name in known} | others)


def _check_scores(scores: Scores, folder: RunFolder) -> None:
    """Raise `RunError` where there is no map besides the controls, or one is not fully scored."""
    layers: Mapping[str, MapSimilarity] | None = None
    for name, score in scores.items():
        if name in CONTROLS:
            continue
        where = f"{where_of(folder)}: scores.{name}"
        _check_set(score, ["sanity", "stability", "completeness"], where)
        assert score.sanity is not UNSET
        cascading = score.sanity.cascading
        layers = cascading if layers is None else layers
        check_has(cascading, list(layers), f"{where}.sanity.cascading")
        check_length(f"scores.{name}.sanity.cascading", list(cascading), len(layers), folder)
    if layers is None:
        raise RunError(f"{where_of(folder)}: scores: no map but {' and '.join(CONTROLS)}")


def _check_brief_scores(summary: CheckpointsSummary, folder: RunFolder) -> None:
    """Raise `RunError` unless every epoch has scores of the last one's maps."""
    names = list(summary.epochs[-1].scores or {})
    if not names:
        raise RunError(f"{where_of(folder)}: epochs: the last one has no scores, which there are")
    for place, result in enumerate(summary.epochs):
        scores, where = result.scores or {}, f"{where_of(folder)}: epochs[{place}].scores"
        check_has(scores, names, where)
        for name, score in scores.items():
            if name not in CONTROLS:
                _check_set(score, ["sanity", "stability"], f"{where}.{name}")


def _check_set(value: Struct, names: Iterable[str], where: str) -> None:
    """Raise `RunError`, which begins with `where`, where a field of a result is not set."""
    for name in names:
        if getattr(value, name) is UNSET:
            raise RunError(f"{where}: '{printable(name)}' is missing")
