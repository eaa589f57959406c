"""What an evolution leaves in its summary and beside it, as types that are checked when read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict, cast, get_args

from msgspec import Meta

from evolution.genotype import Genotype
from evolution.protocol.roles import SEARCHES, TrialId
from robustkit.errors import ModelError, RunError
from robustkit.jobs import Outcome
from robustkit.reading import check_kind, printable
from robustkit.runs import Entry, RunFolder
from robustkit.runs.summaries import (
    Amount,
    Cosine,
    Count,
    Gap,
    Number,
    Published,
    Rate,
    Real,
    Seconds,
    Share,
    check_intervals,
)


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


OUTCOMES = {kind.__name__ for kind in get_args(Outcome)}
_NEEDED = ("reference", "prepare", "baseline", "test")
"""The stages of which failures end a run and are never recorded."""
_OF_CANDIDATES = ("search", "rung", "promotion")
_ARMS = {"reference", "baseline", "final", "judge"} | {
    TrialId(stage=stage, search=search).arm for stage in _OF_CANDIDATES for search in SEARCHES
}


class CandidateRow(TypedDict):
    """The payload of a candidate's trial."""

    genotype: dict[str, Any]
    genotype_key: str
    number: Count
    parents: list[Count]
    operator: str
    generation: Count
    rung: Annotated[int, Meta(ge=0, le=1)]
    epochs: NotRequired[Number]
    identity: NotRequired[str]
    reused: NotRequired[bool]


class Scores(Measured):
    """What a trial measures beside what is drawn of it."""

    cos: Cosine
    grad_norm: Amount


class Curves(TypedDict, total=False):
    """By epoch; None where nothing was measured."""

    train_loss: list[Annotated[float, Meta(ge=0, le=1e100)] | None]
    val_acc: list[Share | None]
    penalty: list[Real | None]


class Training(TypedDict):
    """The result of a net that is trained in full."""

    curves: NotRequired[Curves]
    params: Count
    macs: Count


class Prepared(TypedDict):
    """The result of preparing R."""

    gradients: Count
    masked: Count
    accuracy: Share
    fooled: Share


class Judged(TypedDict):
    """The result of judging a net."""

    params: Count
    macs: Count
    clean_acc: Share
    whitebox_acc: Share


def check_rows(entries: Iterable[Entry], path: Path, own: Sequence[str] = ()) -> None:
    """Check that the entries of the ledger at `path` are such as an evolution records.

    `own` are the user's own objectives, which every candidate's result has. Raises `RunError`,
    naming ledger and entry.
    """
    for entry in entries:
        where = f"{path}: trial '{printable(entry.id)}'"
        if entry.outcome not in OUTCOMES:
            raise RunError(f"{where}: unknown outcome '{printable(entry.outcome)}'")
        if (entry.outcome == "Ok") != (entry.result is not None):
            there = "missing" if entry.result is None else "there"
            raise RunError(f"{where}: {entry.outcome}, and its result is {there}")
        if entry.arm not in _ARMS:
            raise RunError(f"{where}: no evolution has a part '{printable(entry.arm)}'")
        fields = TrialId.parse(entry.id)
        if fields is None or fields.arm != entry.arm:
            raise RunError(f"{where}: not what a trial of '{entry.arm}' is called")
        if fields.stage in _NEEDED and entry.result is None:
            raise RunError(f"{where}: {entry.outcome}, which ends a run and is never recorded")
        if fields.stage in _OF_CANDIDATES:
            _check_candidate(entry, fields, where)
        elif entry.key != entry.id:
            raise RunError(f"{where}: not what a trial of '{entry.arm}' is called")
        if entry.result is not None:
            check_kind(entry.result, _kind_of(fields), f"{where}: result", error=RunError)
            if fields.stage in (*_OF_CANDIDATES, "baseline"):
                _check_own(entry.result, own, where)


def _check_candidate(entry: Entry, fields: TrialId, where: str) -> None:
    row = check_kind(entry.payload, CandidateRow, f"{where}: payload", error=RunError)
    try:
        key = Genotype.from_dict(row["genotype"]).key()
    except ModelError as error:
        raise RunError(f"{where}: {error}") from None
    if row["genotype_key"] != key or entry.key.split("/")[:2] != [key, str(row["rung"])]:
        raise RunError(f"{where}: its key is not that of its genotype, {key}")
    named = replace(fields, number=row["number"], epochs=row.get("epochs"))
    if named != fields:
        raise RunError(f"{where}: its payload is that of '{named}'")
    if (row["rung"] == 1) != (fields.stage == "promotion"):
        raise RunError(f"{where}: rung {row['rung']} is none of '{entry.arm}'")
    if any(parent >= row["number"] for parent in row["parents"]):
        raise RunError(f"{where}: its parents, {row['parents']}, do not come before it")


def _kind_of(fields: TrialId) -> type[Any]:
    if fields.stage in (*_OF_CANDIDATES, "baseline"):
        return Scores
    if fields.stage == "prepare":
        return Prepared
    return Judged if fields.stage == "test" else Training


def _check_own(result: Mapping[str, object], own: Sequence[str], where: str) -> None:
    for name in own:
        if type(result.get(name)) not in (int, float):
            raise RunError(f"{where}: result: '{name}' is no number")
