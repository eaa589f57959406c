"""The result of an evolution: its summary, and the entries of its ledger, checked when read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import UNSET, Meta, UnsetType

from evolution.genotype import Genotype
from evolution.protocol.roles import CONTROLS, ROLES, SEARCHES, TrialId
from robustkit.errors import ModelError, RunError
from robustkit.jobs import Outcome
from robustkit.reading import Json, check_kind, printable
from robustkit.runs import Entry, RunFolder
from robustkit.runs.summaries import (
    Amount,
    Cosine,
    Count,
    Number,
    Published,
    Real,
    Result,
    Seconds,
    Share,
    check_summary,
)
from robustkit.stats import Gap, Rate

# ------------------------------------------------------------------------------------ summary


class TransferRates(Result, frozen=True, kw_only=True):
    """A transfer rate under the three denominators."""

    headline: Rate
    fooling: Rate
    all: Rate


class NetResult(Result, frozen=True, kw_only=True):
    """Accuracies, gradients and size of a role, over its trainings."""

    clean_acc: Share
    clean_acc_by_seed: list[Share] = msgspec.field(default_factory=list)
    whitebox_acc: Share
    cos_mean: Cosine | None
    cos_abs_mean: Cosine | None
    grad_norm_mean: Amount | None
    zero_gradients: Share | None = None
    params: Count
    macs: Count
    seeds: Number


class ComparedNet(NetResult, frozen=True, kw_only=True):
    """The same of a role other than R, and how attacks transfer to it.

    `transfer_from` has further references and surrogates by name, where there are several.
    `paired` is the transfer from R over the images that R, a training of this net and one of E get
    right, the mean over pairs of trainings; `paired_E` E's over the same images.
    """

    transfer_from_R: TransferRates  # noqa: N815 - R is the reference's name throughout
    transfer_from_R_flipped: TransferRates  # noqa: N815
    transfer_from_surrogate: TransferRates
    transfer_to_R: TransferRates  # noqa: N815
    transfer_from: dict[str, TransferRates] | UnsetType = UNSET
    paired: Rate | UnsetType = UNSET
    paired_E: Rate | UnsetType = UNSET  # noqa: N815

    def rate(self, transfer: str, denominator: str = "headline") -> Rate:
        """Return one of the transfer rates by the names of their fields."""
        rate: Rate = getattr(getattr(self, transfer), denominator)
        return rate


class Nets(Result, frozen=True, kw_only=True):
    """The results of all roles; those that may have been left out are unset then."""

    R: NetResult
    R2: ComparedNet | UnsetType = UNSET
    Rp: ComparedNet | UnsetType = UNSET
    E: ComparedNet
    E0: ComparedNet
    RS: ComparedNet
    F: ComparedNet | UnsetType = UNSET
    F0: ComparedNet | UnsetType = UNSET
    P: ComparedNet | UnsetType = UNSET
    P0: ComparedNet | UnsetType = UNSET
    M: ComparedNet | UnsetType = UNSET

    @property
    def roles(self) -> list[str]:
        """Return the roles that are present, in their usual order."""
        return [role for role in ROLES if getattr(self, role) is not UNSET]

    def of(self, role: str) -> NetResult:
        """Return the results of a role; raises `KeyError` for one that was left out."""
        net: NetResult | UnsetType = getattr(self, role)
        if isinstance(net, UnsetType):
            raise KeyError(role)
        return net

    def compared(self, role: str) -> ComparedNet:
        """Return the results of a role other than R."""
        net = self.of(role)
        if not isinstance(net, ComparedNet):
            raise KeyError(role)
        return net


class Prepared(Result, frozen=True, kw_only=True):
    """The result of preparing a reference: its gradients, its accuracy and attacks on val."""

    gradients: Count
    masked: Count
    accuracy: Share
    fooled: Share


class ReferenceResult(Result, frozen=True, kw_only=True):
    """The reference R in the summary; older runs have no given ones.

    `gradients` counts those computed, `masked` those without a direction.
    """

    accuracy: Share
    fooled: Share | None = None
    gradients: Count | UnsetType = UNSET
    masked: Count | UnsetType = UNSET
    others: dict[str, Prepared] | UnsetType = UNSET
    given: bool = False
    validation_images: Count = 0
    published: Published | None = None
    notes: list[str] = msgspec.field(default_factory=list)


Verdict = Literal["better", "worse", "undecided", "costs accuracy", "less accurate"]
"""Of E against another net. "better", "worse", "undecided": by the interval of the difference in
transfer, at equal accuracy (within the tolerance, or E is the more accurate one). "costs accuracy":
E is the less accurate one. "less accurate": the other is, and E's transfer is not lower."""


class Comparison(Result, frozen=True, kw_only=True):
    """E against the net of another role, X.

    `transfer` is T(R→X) - T(R→E) over the images that both and R get right, the mean over pairs of
    trainings; `unseen` the same from the surrogates, their mean, over the images that both get
    right; `accuracy` E's less X's, over all test images.
    """

    transfer: Gap
    unseen: Gap | UnsetType = UNSET
    accuracy: Gap
    verdict: Verdict


class Unseen(Result, frozen=True, kw_only=True):
    """Transfer from surrogates, which took no part in any penalty, by role.

    Headline: over the images that every training of R, R2, R', E, E0 and RS gets right, of
    baselines those that they get right as well; the mean over surrogates, and the highest.
    """

    mean: Share | None
    worst: Rate
    worst_source: str


class Qualification(Result, frozen=True, kw_only=True):
    """R's architecture trained again as R was, on validation.

    `accuracy` of each training; `transfer` from R, the mean over them. Below a half of the images
    R's attacks hardly transfer to R's own architecture: what escapes them shows nothing, and the
    reference is not `testable`.
    """

    accuracy: list[Share]
    transfer: Rate
    testable: bool


class Penalty(Result, frozen=True, kw_only=True):
    """The weight of the penalty and how it was chosen.

    `within`: it costs R's architecture no more accuracy than allowed; unset where only one was
    given. `accuracy` and `transfer` of R's architecture on validation at trial budget, for each
    training with each weight that was tried.
    """

    lam: Amount
    within: bool | UnsetType = UNSET
    accuracy: dict[str, list[Share]] = msgspec.field(default_factory=dict)
    transfer: dict[str, list[Share]] = msgspec.field(default_factory=dict)


class Validation(Result, frozen=True, kw_only=True):
    """The measures of a trial on validation that the selection rule saw."""

    accuracy: Share
    transfer: Share
    cos_abs: Cosine
    params: Count
    macs: Count


class Measured(Validation, frozen=True, kw_only=True):
    """The measures of a trial on validation, and the number of images in its transfer."""

    transfer_n: Count
    transfer_worst: Share | UnsetType = UNSET
    transfer_R: Share | UnsetType = UNSET  # noqa: N815 - R is the reference's name throughout
    transfer_R_n: Count | UnsetType = UNSET  # noqa: N815


class Selected(Result, frozen=True, kw_only=True):
    """The candidate that was selected, by which rule, and from how many."""

    number: Count
    key: str
    rule: str
    considered: Count
    validation: Validation
    operator: str | UnsetType = UNSET


class Selections(Result, frozen=True, kw_only=True):
    """The candidates that became E, which is E0 as well, and RS."""

    E: Selected
    E0: Selected | UnsetType = UNSET
    RS: Selected


class Summary(Result, frozen=True, kw_only=True):
    """`summary.json`; `gap` is None without R'.

    `qualification` is R's, `further_qualifications` those of other references by name.
    `baseline` has R's architecture at trial budget, without ("R2") and with the penalty ("Rp"), and
    "R2/EPOCHS" on lower rungs. `comparisons` of E with the other nets, `unseen` the transfer from
    surrogates, both by role; `sources` the models of references and surrogates by name. `seconds`
    are those of each part of the run, "wall" from start to end. `left_out` has the roles that there
    are not, with the reason. `epochs_saved` are those that the `trials_stopped` early did not have.
    `tolerance` is the difference in accuracy, in [0,1], that `comparisons` count as equal.
    """

    trials: Count
    trials_by_arm: dict[str, Count] = msgspec.field(default_factory=dict)
    trials_on_lower_rungs: Count = 0
    trials_from_cache: Count
    trials_stopped: Count = 0
    epochs_saved: Count = 0
    outcomes: dict[str, Count] = msgspec.field(default_factory=dict)
    nets: Nets
    gap: Gap | None
    search_gap: Gap
    penalty_gap: Gap | None = None
    left_out: dict[str, str] = msgspec.field(default_factory=dict)
    warnings: list[str] = msgspec.field(default_factory=list)
    common_images: Count
    test_images: Count
    data: str
    data_digest: str
    reference: ReferenceResult
    baseline: dict[str, Measured]
    selection: Selections
    failed_finalists: list[str] = msgspec.field(default_factory=list)
    seconds: dict[str, Seconds]
    qualification: Qualification | UnsetType = UNSET
    further_qualifications: dict[str, Qualification] | UnsetType = UNSET
    penalty: Penalty | UnsetType = UNSET
    comparisons: dict[str, Comparison] = msgspec.field(default_factory=dict)
    tolerance: Share = 0.01
    unseen: dict[str, Unseen] = msgspec.field(default_factory=dict)
    sources: dict[str, str] = msgspec.field(default_factory=dict)

    @property
    def control(self) -> str:
        """Return the role that E is compared with: Rp, or E0 where Rp was left out."""
        return "E0" if self.gap is None else "Rp"

    @property
    def control_gap(self) -> Gap:
        """Return the gap T(R→control) - T(R→E)."""
        gap = self.penalty_gap if self.gap is None else self.gap
        if gap is None:
            raise ValueError("a summary has gap or penalty_gap")
        return gap


class Event(Result, frozen=True, kw_only=True):
    """A line of `metrics.jsonl`."""

    wall_seconds: Seconds = 0.0


def read_summary(folder: RunFolder) -> Summary | None:
    """Return the summary of an evolution, None while it has not ended.

    Raises `RunError`, naming the entry, if it was edited.
    """
    plain = folder.summary()
    if plain is None:
        return None
    where = str(folder.file("summary.json"))
    summary = check_summary(plain, Summary, where)
    _check_roles(summary, where)
    required = ("validation_images", "published", "notes")
    if summary.reference.given and not all(name in plain["reference"] for name in required):
        raise RunError(
            f"{where}: reference: R is given, and {', '.join(required)} are not all there"
        )
    if summary.common_images > summary.test_images:
        raise RunError(f"{where}: common_images: more than there are test_images")
    if "wall" not in summary.seconds:
        raise RunError(f"{where}: seconds: 'wall' is missing")
    return summary


def _check_roles(summary: Summary, where: str) -> None:
    """Check that R2 and Rp are there or left out, and that the gaps fit that."""
    for role in CONTROLS:
        present, missing = role in summary.nets.roles, role in summary.left_out
        if present == missing:
            state = "both there and left out" if present else "neither there nor left out"
            raise RunError(f"{where}: nets: {role} is {state}")
    if (summary.gap is None) == ("Rp" in summary.nets.roles):
        raise RunError(f"{where}: gap: it is there if and only if Rp is among the nets")
    if summary.gap is None and summary.penalty_gap is None:
        raise RunError(f"{where}: penalty_gap is missing, which stands in for gap")


# ------------------------------------------------------------------------------------- ledger

OUTCOMES = {kind.__name__ for kind in get_args(Outcome)}
_NEEDED = ("reference", "prepare", "baseline", "test")
"""The stages of which failures end a run and are never recorded."""
_OF_CANDIDATES = ("search", "rung", "promotion")
_OF_ARCHITECTURE = ("qualification", "baseline", "lambda")
_ARMS = {"reference", *_OF_ARCHITECTURE, "final", "judge"} | {
    TrialId(stage=stage, search=search).arm for stage in _OF_CANDIDATES for search in SEARCHES
}


class CandidateRow(Result, frozen=True, kw_only=True):
    """The payload of a candidate's trial; without `epochs` it is one at trial budget."""

    genotype: Json
    genotype_key: str
    number: Count
    parents: list[Count]
    operator: str
    generation: Count
    rung: Annotated[int, Meta(ge=0, le=1)]
    epochs: Number | None = None
    identity: str = ""
    reused: bool = False


Loss = Annotated[float, Meta(ge=0, le=1e100)]


class Curves(Result, frozen=True, kw_only=True):
    """The curves of a training by epoch; None where nothing was measured."""

    train_loss: list[Loss | None] = msgspec.field(default_factory=list)
    val_acc: list[Share | None] = msgspec.field(default_factory=list)
    penalty: list[Real | None] = msgspec.field(default_factory=list)


class Scores(Measured, frozen=True, kw_only=True):
    """The result of a trial; it has `stopped_after` so many epochs where it was stopped early."""

    cos: Cosine
    grad_norm: Amount
    stopped_after: Number | UnsetType = UNSET


class Training(Result, frozen=True, kw_only=True):
    """The result of a net that is trained in full."""

    curves: Curves = msgspec.field(default_factory=Curves)
    params: Count
    macs: Count


class PreparedReferences(Prepared, frozen=True, kw_only=True):
    """The result of preparing R and the `others`, by name."""

    others: dict[str, Prepared] = msgspec.field(default_factory=dict)


class NetEvaluated(Result, frozen=True, kw_only=True):
    """The result of evaluating a net on test."""

    params: Count
    macs: Count
    clean_acc: Share
    whitebox_acc: Share


def check_rows(entries: Iterable[Entry], path: Path, objectives: Sequence[str] = ()) -> None:
    """Check that the entries of the ledger at `path` are such as an evolution records.

    `objectives` are the user's own, which every candidate's result has. Raises `RunError`, naming
    ledger and entry.
    """
    for entry in entries:
        where = f"{path}: trial '{printable(entry.id)}'"
        if entry.outcome not in OUTCOMES:
            raise RunError(f"{where}: unknown outcome '{printable(entry.outcome)}'")
        if (entry.outcome == "Ok") != (entry.result is not None):
            state = "missing" if entry.result is None else "there"
            raise RunError(f"{where}: {entry.outcome}, and its result is {state}")
        if entry.stage not in _ARMS:
            raise RunError(f"{where}: no evolution has a part '{printable(entry.stage)}'")
        trial_id = TrialId.parse(entry.id)
        if trial_id is None or trial_id.arm != entry.stage:
            raise RunError(f"{where}: not what a trial of '{entry.stage}' is called")
        if trial_id.stage in _NEEDED and entry.result is None:
            raise RunError(f"{where}: {entry.outcome}, which ends a run and is never recorded")
        if trial_id.stage in _OF_CANDIDATES:
            _check_candidate(entry, trial_id, where)
        elif entry.key != entry.id:
            raise RunError(f"{where}: not what a trial of '{entry.stage}' is called")
        if entry.result is not None:
            check_kind(entry.result, _kind_of(trial_id), f"{where}: result", error=RunError)
            if trial_id.stage in (*_OF_CANDIDATES, *_OF_ARCHITECTURE):
                _check_own(entry.result, objectives, where)


def _check_candidate(entry: Entry, trial_id: TrialId, where: str) -> None:
    row = check_kind(entry.payload, CandidateRow, f"{where}: payload", error=RunError)
    try:
        key = Genotype.from_dict(row.genotype).key()
    except ModelError as error:
        raise RunError(f"{where}: {error}") from None
    if row.genotype_key != key or entry.key.split("/")[:2] != [key, str(row.rung)]:
        raise RunError(f"{where}: its key is not that of its genotype, {key}")
    of_payload = replace(trial_id, number=row.number, epochs=row.epochs)
    if of_payload != trial_id:
        raise RunError(f"{where}: its payload is that of '{of_payload}'")
    if (row.rung == 1) != (trial_id.stage == "promotion"):
        raise RunError(f"{where}: rung {row.rung} is none of '{entry.stage}'")
    if any(parent >= row.number for parent in row.parents):
        raise RunError(f"{where}: its parents, {row.parents}, do not come before it")


def _kind_of(trial_id: TrialId) -> type[Result]:
    if trial_id.stage in (*_OF_CANDIDATES, *_OF_ARCHITECTURE):
        return Scores
    if trial_id.stage == "prepare":
        return PreparedReferences
    return NetEvaluated if trial_id.stage == "test" else Training


def _check_own(result: Mapping[str, object], objectives: Sequence[str], where: str) -> None:
    for name in objectives:
        if type(result.get(name)) not in (int, float):
            raise RunError(f"{where}: result: '{name}' is no number")
