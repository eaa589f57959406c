"""`summary.json` of an evolution run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import torch
from msgspec import UNSET, structs
from numpy.typing import NDArray

from evolution.protocol.jobs import NetEvaluation, evaluation_path, load_evaluation, mean_or_none
from evolution.protocol.pipeline import Protocol
from evolution.protocol.reference import rate_words, warnings_about
from evolution.protocol.result import (
    ComparedNet,
    Comparison,
    Measured,
    NetResult,
    Nets,
    ReferenceResult,
    Selections,
    Summary,
    TransferRates,
    Unseen,
    Verdict,
)
from evolution.protocol.roles import (
    COMPARED,
    REFERENCE,
    ROLES,
    SURROGATE,
    TrialId,
    id_of,
    tested_nets,
)
from robustkit.models.cost import Cost
from robustkit.runs import Entry, Ledger
from robustkit.stats import (
    Gap,
    MatchedGap,
    Outcomes,
    matched_gap,
    paired_gap,
    pooled_rate,
    wilson,
)

Mask = NDArray[np.bool_]


Group = Sequence[NetEvaluation]


@dataclass(frozen=True)
class Compared:
    """The `nets` by role, gaps, E against every other net, and the common set.

    `gap` is T(R→R') - T(R→E), None without R'; `search_gap` is T(R→RS) - T(R→E): evolution against
    random search; `penalty_gap` is T(R→E0) - T(R→E): the penalty, on the evolved architecture.
    `common` bool (N,): images that R and every training of R2, R', E, E0 and RS classify correctly.
    """

    nets: dict[str, NetResult]
    gap: Gap | None
    search_gap: Gap
    penalty_gap: Gap
    comparisons: dict[str, Comparison]
    unseen: dict[str, Unseen]
    common: Mask


def compare(
    evaluations: Mapping[str, Group],
    fooled: Mapping[str, Mask],
    *,
    sizes: Mapping[str, Cost],
    seed: int,
    tolerance: float = 0.01,
) -> Compared:
    """Compare R with all other nets and E with each; E, E0 and RS alone must be there.

    `evaluations` has one per training by role, "R" exactly one; `sizes` has their cost. `fooled`
    bool (N,) says which adversarials fool the net they were made on, by its name ("R", "S", …) and
    for "flipped". Rates are over three denominators (methods §1): `headline` over the common set,
    `fooling` over those of it whose adversarial fools its source, `all` over all images; those of
    baselines over images of these sets that the baseline's training gets right as well.
    `tolerance` is the difference in accuracy, in [0,1], that still counts as equal.
    """
    common = np.logical_and.reduce(
        [
            _stack(group, "correct").all(axis=0)
            for role, group in evaluations.items()
            if role in COMPARED
        ]
    )
    (reference,) = evaluations[REFERENCE]
    right = reference.correct.numpy()
    nets: dict[str, NetResult] = {}
    comparisons: dict[str, Comparison] = {}
    unseen: dict[str, Unseen] = {}
    for role, group in evaluations.items():
        measured = _measured(group, sizes[role])
        if role == REFERENCE:
            nets[role] = measured
            continue
        nets[role] = _transfer(measured, group, fooled, common)
        unseen[role] = _unseen(group, fooled, common)
        if role != "E":
            matched = matched_transfer(group, evaluations["E"], right, seed=seed)
            nets[role] = structs.replace(nets[role], paired=matched.first, paired_E=matched.second)
            comparisons[role] = against(
                group, evaluations["E"], matched.gap, seed=seed, tolerance=tolerance
            )

    def gap(role: str) -> Gap:
        wrong = [
            ~_under(evaluations[compared_role], REFERENCE)[:, common]
            for compared_role in (role, "E")
        ]
        return paired_gap(wrong[0], wrong[1], seed=seed)

    published = gap("Rp") if "Rp" in evaluations else None
    return Compared(nets, published, gap("RS"), gap("E0"), comparisons, unseen, common)


def verdict(transfer: Gap, accuracy: Gap, tolerance: float) -> Verdict:
    """Return the verdict on E from T(R→X) - T(R→E) and E's accuracy less X's, both in points.

    >>> transfer = Gap(value=12.0, n=900, low=8.0, high=16.0, p_value=0.0)
    >>> accuracy = Gap(value=-0.4, n=2000, low=-2.0, high=1.2, p_value=0.6)
    >>> verdict(transfer, accuracy, 0.01)
    'better'
    """
    difference = accuracy.value or 0.0
    if difference < -100 * tolerance:
        return "costs accuracy"
    low, high = transfer.low, transfer.high
    if low is not None and low > 0:
        return "better"
    if difference > 100 * tolerance:
        return "less accurate"
    return "worse" if high is not None and high < 0 else "undecided"


def matched_transfer(group: Group, evolved: Group, right: Mask, *, seed: int) -> MatchedGap:
    """Return T(R→X) - T(R→E) over the images that R (`right` bool (N,)) and both get right.

    The mean over pairs of a training of X and one of E.
    """
    return _matched(group, evolved, [REFERENCE], right, seed)


def against(
    group: Group, evolved: Group, transfer: Gap, *, seed: int, tolerance: float
) -> Comparison:
    """Return E against the net of another role, given the difference in transfer from R."""
    accuracy = paired_gap(_stack(evolved, "correct"), _stack(group, "correct"), seed=seed)
    surrogates = _surrogates(group)
    everything = np.ones(accuracy.n, dtype=np.bool_)
    return Comparison(
        transfer=transfer,
        unseen=_matched(group, evolved, surrogates, everything, seed).gap,
        accuracy=accuracy,
        verdict=verdict(transfer, accuracy, tolerance),
    )


def _matched(
    first: Group, second: Group, sources: Sequence[str], among: Mask, seed: int
) -> MatchedGap:
    """Return the difference of transfer from `sources`, the mean over these."""

    def outcomes(group: Group) -> Outcomes:
        wrong = [~_under(group, source) for source in sources]
        return Outcomes(
            _stack(group, "correct"), wrong[0] if len(wrong) == 1 else np.mean(wrong, axis=0)
        )

    return matched_gap(outcomes(first), outcomes(second), among=among, seed=seed)


def _surrogates(group: Group) -> list[str]:
    return [source for source in group[0].under if source.startswith(SURROGATE)]


def _unseen(group: Group, fooled: Mapping[str, Mask], common: Mask) -> Unseen:
    """Return the transfer from surrogates to a role's nets."""
    rates = {
        source: _rates(
            ~_under(group, source), fooled[source][None], common, _stack(group, "correct")
        ).headline
        for source in _surrogates(group)
    }
    known = [rate.value for rate in rates.values() if rate.value is not None]
    worst = max(rates, key=lambda source: rates[source].value or 0.0)
    mean = float(np.mean(known)) if known else None
    return Unseen(mean=mean, worst=rates[worst], worst_source=worst)


def _transfer(
    measured: NetResult, group: Group, fooled: Mapping[str, Mask], common: Mask
) -> ComparedNet:
    """Return what was `measured` of a role's nets with how attacks transfer to them."""
    right = _stack(group, "correct")

    def rates(field: Mask, fooled: Mask) -> TransferRates:
        return _rates(~field, fooled, common, right)

    sources = {
        source: rates(_under(group, source), fooled[source][None]) for source in group[0].under
    }
    first = {name: sources.pop(name) for name in (REFERENCE, SURROGATE)}
    return ComparedNet(
        **structs.asdict(measured),
        transfer_from_R=first[REFERENCE],
        transfer_from_surrogate=first[SURROGATE],
        transfer_from=sources or UNSET,
        transfer_from_R_flipped=rates(_stack(group, "under_flipped"), fooled["flipped"][None]),
        transfer_to_R=rates(_stack(group, "R_under_own"), ~_stack(group, "under_own")),
    )


def _stack(group: Group, field: str) -> Mask:
    """Return one field of several evaluations, bool (S,N)."""
    return np.stack([getattr(evaluation, field).numpy() for evaluation in group])


def _under(group: Group, source: str) -> Mask:
    """Return whether the trainings are right on a source's adversarials, bool (S,N)."""
    return np.stack([evaluation.under[source].numpy() for evaluation in group])


def _rates(wrong: Mask, fooled: Mask, common: Mask, right: Mask) -> TransferRates:
    """Return the share of `wrong` (S,N) images; `fooled` is (1,N) or (S,N).

    Trainings are `right` (S,N) on the common set but for those of baselines.
    """
    counted = right & common
    return TransferRates(
        headline=pooled_rate(wrong, counted),
        fooling=pooled_rate(wrong, counted & fooled),
        all=pooled_rate(wrong, np.ones_like(wrong)),
    )


def _measured(group: Sequence[NetEvaluation], size: Cost) -> NetResult:
    """Return the results of a role over its trainings, without transfer."""
    clean = _stack(group, "correct").mean(axis=1)
    robust = (_stack(group, "correct") & _stack(group, "under_own")).mean(axis=1)
    cosines = torch.cat([evaluation.cosine for evaluation in group])
    return NetResult(
        clean_acc=float(clean.mean()),
        clean_acc_by_seed=[float(share) for share in clean],
        whitebox_acc=float(robust.mean()),
        cos_mean=mean_or_none(cosines),
        cos_abs_mean=mean_or_none(cosines.abs()),
        grad_norm_mean=mean_or_none(torch.cat([evaluation.norm for evaluation in group])),
        zero_gradients=float(torch.isnan(cosines).double().mean()),
        params=size.params,
        macs=size.macs,
        seeds=len(group),
    )


def _mean_cost(costs: Sequence[Cost]) -> Cost:
    """Return the mean cost of a role's trainings, which of M are of several architectures."""
    return Cost(
        round(fmean(cost.params for cost in costs)), round(fmean(cost.macs for cost in costs))
    )


def summarise(
    protocol: Protocol, ledger: Ledger, fooled: Mapping[str, Mask], wall: float
) -> Summary:
    """Return the results of a finished run; all but `seconds` depend on the config alone.

    `fooled` is that of `compare`; `wall` is in seconds.
    """
    entries, space = ledger.trials(), protocol.space
    names, ids = tested_nets(entries), {entry.id: id_of(entry) for entry in entries}
    run, images = space.folder.path, len(space.splits.test)
    evaluations = {
        role: [load_evaluation(evaluation_path(run, name), images) for name in names[role]]
        for role in ROLES
        if role in names and role not in protocol.left_out
    }
    costs = {
        ids[entry.id].net: Cost(entry.result["params"], entry.result["macs"])
        for entry in entries
        if ids[entry.id].stage == "test" and entry.result is not None
    }
    comparison = compare(
        evaluations,
        fooled,
        sizes={role: _mean_cost([costs[name] for name in names[role]]) for role in evaluations},
        seed=protocol.config.seed,
        tolerance=protocol.config.tolerance,
    )
    accuracy = wilson(protocol.prepared["accuracy"], len(space.splits.val))
    searched = [entry for entry in entries if ids[entry.id].stage == "search"]
    saved = saved_epochs(entries, protocol.config.epochs)
    further = {name: each for name, each in protocol.qualifications.items() if name != REFERENCE}
    return Summary(
        trials=len(searched),
        trials_by_arm=dict(Counter(entry.stage for entry in searched)),
        trials_on_lower_rungs=sum(trial_id.stage == "rung" for trial_id in ids.values()),
        trials_from_cache=len(searched) - len({entry.key for entry in searched}),
        trials_stopped=len(saved),
        epochs_saved=sum(saved.values()),
        outcomes=dict(sorted(Counter(entry.outcome for entry in searched).items())),
        nets=Nets.from_json({role: n.to_json() for role, n in comparison.nets.items()}, "nets"),
        gap=comparison.gap,
        search_gap=comparison.search_gap,
        penalty_gap=comparison.penalty_gap,
        left_out=dict(protocol.left_out),
        warnings=[
            *warnings_about(accuracy, space.splits.train.num_classes, protocol.reference.published),
            *_doubts(protocol),
        ],
        common_images=int(comparison.common.sum()),
        test_images=len(comparison.common),
        data=space.splits.name,
        data_digest=space.splits.test.digest(),
        reference=ReferenceResult.from_json(
            protocol.prepared
            | {
                "given": protocol.reference.given,
                "validation_images": accuracy.n,
                "published": protocol.reference.published,
                "notes": protocol.reference.notes,
            },
            "reference",
        ),
        baseline={
            name: Measured.from_json(result, name) for name, result in protocol.baseline.items()
        },
        selection=Selections(
            **{role: selection.result() for role, selection in protocol.selections.items()}
        ),
        failed_finalists=[
            entry.id
            for entry in entries
            if ids[entry.id].stage == "final" and entry.outcome != "Ok"
        ],
        seconds=seconds_by_phase(entries) | {"wall": wall},
        qualification=protocol.qualifications.get(REFERENCE, UNSET),
        further_qualifications=further or UNSET,
        penalty=protocol.penalty or UNSET,
        comparisons=comparison.comparisons,
        tolerance=protocol.config.tolerance,
        unseen=comparison.unseen,
        sources=dict(zip(protocol.config.references, protocol.config.reference, strict=True))
        | protocol.config.surrogates,
    )


def _doubts(protocol: Protocol) -> list[str]:
    """Return what makes the comparison doubtful: a reference or a weight that does not qualify."""
    doubts = []
    penalty = protocol.penalty
    if REFERENCE not in protocol.qualifications and not protocol.reference.left_out:
        doubts.append(
            "whether R is testable is not known: no training of its architecture, made as R was, "
            "succeeded"
        )
    for name, qualification in protocol.qualifications.items():
        if not qualification.testable:
            doubts.append(
                f"not testable: {name}'s adversarials fool {name}'s own architecture, trained "
                f"again, on {rate_words(qualification.transfer)}, of validation; below 50 % there "
                f"is too little to escape from. Train {name} for longer (--final-epochs), or take "
                "another"
            )
    if penalty is not None and penalty.within is False:
        tried = ", ".join(f"{lam:g}" for lam in protocol.config.lams)
        reason = (
            f"each costs R's architecture more than {100 * protocol.config.tolerance:g} points"
            if penalty.accuracy
            else "R's architecture, on which the rule chooses, cannot be trained"
        )
        doubts.append(
            f"no weight of the penalty among {tried} is within the rule ({reason}): the "
            f"smallest, {penalty.lam:g}, was taken"
        )
    return doubts


def summary_json(summary: Summary, protocol: Protocol) -> dict[str, object]:
    """Return the values of `summary.json`, with all that the trials of R's architecture measured.

    Among them are the user's own objectives, which no type names.
    """
    baseline = {
        name: {key: value for key, value in result.items() if key != "curves"}
        for name, result in sorted(protocol.baseline.items())
    }
    return summary.to_json() | {"baseline": baseline}


def saved_epochs(entries: Sequence[Entry], epochs: int) -> dict[str, int]:
    """Return how many epochs each trial that was stopped early did not train, by its key.

    `epochs` are those of a trial at trial budget. What was taken over from another run saved
    nothing in this one.
    """
    saved: dict[str, int] = {}
    for entry in entries:
        stopped = None if entry.result is None else entry.result.get("stopped_after")
        if stopped is not None and not entry.payload.get("reused"):
            saved[entry.key] = (id_of(entry).epochs or epochs) - int(stopped)
    return saved


def seconds_by_phase(entries: Sequence[Entry]) -> dict[str, float]:
    """Return the seconds of computation of each part of the run, summed over workers."""
    seconds = dict.fromkeys(
        ("reference", "search", "random_search", "promotion", "finalists", "judging"), 0.0
    )
    for entry in entries:
        seconds[_phase(id_of(entry))] += entry.seconds
    return seconds


def _phase(trial_id: TrialId) -> str:
    if trial_id.stage in ("search", "rung"):
        return "random_search" if trial_id.search == "random" else "search"
    return {"promotion": "promotion", "final": "finalists", "test": "judging"}.get(
        trial_id.stage, "reference"
    )
