"""The rows of an evolution's ledger as types, checked wherever a ledger is read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict, get_args

from msgspec import Meta

from evolution import Genotype
from experiments.evolve.result import Measured
from experiments.summaries import Amount, Cosine, Count, Number, Real, Share
from robustkit.compute import Outcome
from robustkit.errors import ModelError, RunError
from robustkit.reading import check_kind, printable
from robustkit.runs import Trial

OUTCOMES = {kind.__name__ for kind in get_args(Outcome)}
SEARCHES = ("evolve", "random")
CANDIDATES = (
    *SEARCHES,
    *(f"rungs-{arm}" for arm in SEARCHES),
    *(f"promote-{arm}" for arm in SEARCHES),
)
"""The arms whose trials are of candidates."""

_PLAYER = r"(R2|Rp|E|E0|RS)-\d+"
# Of the other arms: what their trials are called.
_IDS = {
    "reference": re.compile(r"prepare|reference/(R|S)"),
    "baseline": re.compile(r"baseline/(R2|Rp)(/\d+)?"),
    "final": re.compile(f"final/{_PLAYER}"),
    "judge": re.compile(f"judge/(R|{_PLAYER})"),
}
_NEEDED = ("reference", "baseline", "judge")


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


def check_rows(trials: Iterable[Trial], path: Path, own: Sequence[str] = ()) -> None:
    """Check that the trials in the ledger at `path` are such as an evolution records.

    `own` are objectives of a person's own, which every candidate's result tells. Raises `RunError`,
    naming ledger and trial.
    """
    for trial in trials:
        where = f"{path}: trial '{printable(trial.id)}'"
        if trial.outcome not in OUTCOMES:
            raise RunError(f"{where}: unknown outcome '{printable(trial.outcome)}'")
        if (trial.outcome == "Ok") != (trial.result is not None):
            raise RunError(f"{where}: {trial.outcome}, and its result is {_there(trial.result)}")
        if trial.arm in _NEEDED and trial.result is None:
            raise RunError(f"{where}: {trial.outcome}, which ends a run and is never recorded")
        if trial.arm in CANDIDATES:
            _check_candidate(trial, where)
        elif trial.arm not in _IDS:
            raise RunError(f"{where}: no evolution has a part '{printable(trial.arm)}'")
        elif _IDS[trial.arm].fullmatch(trial.id) is None or trial.key != trial.id:
            raise RunError(f"{where}: not what a trial of '{trial.arm}' is called")
        if trial.result is not None:
            check_kind(trial.result, _kind_of(trial), f"{where}: result", error=RunError)
            if trial.arm in CANDIDATES or trial.arm == "baseline":
                _check_own(trial.result, own, where)


def _check_candidate(trial: Trial, where: str) -> None:
    told = check_kind(trial.payload, CandidateRow, f"{where}: payload", error=RunError)
    try:
        key = Genotype.from_dict(told["genotype"]).key()
    except ModelError as error:
        raise RunError(f"{where}: {error}") from None
    if told["genotype_key"] != key or trial.key.split("/")[:2] != [key, str(told["rung"])]:
        raise RunError(f"{where}: its key is not that of its genotype, {key}")
    lower = trial.arm.startswith("rungs-")
    name = f"{trial.arm}/{told['number']:04d}" + (f"/{told.get('epochs')}" if lower else "")
    if trial.id != name or lower != ("epochs" in told):
        raise RunError(f"{where}: its payload is that of '{name}'")
    if (told["rung"] == 1) != trial.arm.startswith("promote-"):
        raise RunError(f"{where}: rung {told['rung']} is none of '{trial.arm}'")
    if any(parent >= told["number"] for parent in told["parents"]):
        raise RunError(f"{where}: its parents, {told['parents']}, do not come before it")


def _kind_of(trial: Trial) -> type[Any]:
    if trial.arm in CANDIDATES or trial.arm == "baseline":
        return Scores
    if trial.id == "prepare":
        return Prepared
    return Judged if trial.arm == "judge" else Training


def _check_own(result: dict[str, Any], own: Sequence[str], where: str) -> None:
    for name in own:
        if type(result.get(name)) not in (int, float):
            raise RunError(f"{where}: result: '{name}' is no number")


def _there(result: object) -> str:
    return "missing" if result is None else "there"
