"""What an evolution leaves in its summary and beside it, as types that are checked when read."""

from __future__ import annotations

from typing import NotRequired, TypedDict, cast

from experiments.summaries import (
    Amount,
    Cosine,
    Count,
    Gap,
    Number,
    Published,
    Rate,
    Seconds,
    Share,
    check_intervals,
)
from robustkit.errors import RunError
from robustkit.reading import check_kind
from robustkit.runs import RunFolder


class TransferRates(TypedDict):
    """A transfer under the three denominators."""

    headline: Rate
    fooling: Rate
    all: Rate


class NetResult(TypedDict):
    """Accuracies, gradients and size of a player, over its trainings."""

    clean_acc: Share
    whitebox_acc: Share
    cos_mean: Cosine | None
    cos_abs_mean: Cosine | None
    grad_norm_mean: Amount | None
    zero_gradients: NotRequired[Share | None]
    params: Count
    macs: Count
    seeds: Number


class ComparedNet(NetResult):
    """The same of a player other than R, and how attacks transfer to it."""

    transfer_from_R: TransferRates
    transfer_from_R_flipped: TransferRates
    transfer_from_surrogate: TransferRates
    transfer_to_R: TransferRates


class Nets(TypedDict):
    """All players; R2 and Rp may have been left out."""

    R: NetResult
    R2: NotRequired[ComparedNet]
    Rp: NotRequired[ComparedNet]
    E: ComparedNet
    E0: ComparedNet
    RS: ComparedNet


class LeftOut(TypedDict, total=False):
    """Why there is no R2 and no Rp."""

    R2: str
    Rp: str


class ReferenceResult(TypedDict):
    """What is known of R; older runs knew nothing of given ones."""

    accuracy: Share
    fooled: NotRequired[Share | None]
    given: NotRequired[bool]
    validation_images: NotRequired[Count]
    published: NotRequired[Published | None]
    notes: NotRequired[list[str]]


class Measured(TypedDict):
    """What a trial measures on validation."""

    accuracy: Share
    transfer: Share
    transfer_n: Count
    cos_abs: Cosine
    params: Count
    macs: Count


class Baselines(TypedDict, total=False):
    """R's architecture at trial budget, without and with the penalty."""

    R2: Measured
    Rp: Measured


class Validation(TypedDict):
    """What the rule saw of the net that it chose."""

    accuracy: Share
    transfer: Share
    cos_abs: Cosine
    params: Count
    macs: Count


class ChoiceDict(TypedDict):
    """Which candidate was chosen, by which rule, and from how many."""

    number: Count
    key: str
    rule: str
    considered: Count
    validation: Validation


class Selection(TypedDict):
    """Who became E, which is E0 as well, and who became RS."""

    E: ChoiceDict
    RS: ChoiceDict


class Summary(TypedDict):
    """`summary.json`, as far as it is drawn or told."""

    trials: Count
    trials_from_cache: Count
    nets: Nets
    gap: Gap | None
    search_gap: Gap
    penalty_gap: NotRequired[Gap]
    left_out: NotRequired[LeftOut]
    warnings: NotRequired[list[str]]
    common_images: Count
    test_images: Count
    data: str
    data_digest: str
    reference: ReferenceResult
    baseline: Baselines
    selection: Selection
    seconds: dict[str, Seconds]


class ReferenceNote(TypedDict):
    """`reference.json`: what was known of R before the run."""

    given: bool
    notes: list[str]
    left_out: LeftOut
    published: Published | None


class Event(TypedDict):
    """A line of `metrics.jsonl`."""

    wall_seconds: NotRequired[Seconds]


def read_summary(folder: RunFolder) -> Summary | None:
    """The summary of an evolution, None while it has not ended; raises `RunError` if edited."""
    found = folder.summary()
    if found is None:
        return None
    where = str(folder.file("summary.json"))
    summary = check_kind(found, Summary, where, error=RunError)
    check_intervals(summary, where)
    _check_players(summary, where)
    reference = summary["reference"]
    wanted = ("validation_images", "published", "notes")
    if reference.get("given") and not all(name in reference for name in wanted):
        raise RunError(f"{where}: reference: R is given, and {', '.join(wanted)} are not all there")
    if summary["common_images"] > summary["test_images"]:
        raise RunError(f"{where}: common_images: more than there are test_images")
    if "wall" not in summary["seconds"]:
        raise RunError(f"{where}: seconds: 'wall' is missing")
    return summary


def net_of(nets: Nets, name: str) -> NetResult:
    """The results of the player `name`."""
    return cast(dict[str, NetResult], nets)[name]


def compared_net(nets: Nets, name: str) -> ComparedNet:
    """The results of a player `name` other than R."""
    return cast(dict[str, ComparedNet], nets)[name]


def rate_of(net: ComparedNet, transfer: str, denominator: str = "headline") -> Rate:
    """One of a player's transfer rates."""
    return cast(dict[str, dict[str, Rate]], net)[transfer][denominator]


def left_out_of(summary: Summary) -> dict[str, str]:
    """Which of R2 and Rp there is not, and why."""
    return dict(cast(dict[str, str], summary.get("left_out", {})))


def _check_players(summary: Summary, where: str) -> None:
    """R2 and Rp are there or left out, and what is said without them."""
    for name in ("R2", "Rp"):
        there, missing = name in summary["nets"], name in summary.get("left_out", {})
        if there == missing:
            told = "both there and left out" if there else "neither there nor left out"
            raise RunError(f"{where}: nets: {name} is {told}")
    if (summary["gap"] is None) == ("Rp" in summary["nets"]):
        raise RunError(f"{where}: gap: it is there if and only if Rp is among the nets")
    if summary["gap"] is None and "penalty_gap" not in summary:
        raise RunError(f"{where}: penalty_gap is missing, which stands in for gap")
