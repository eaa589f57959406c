"""`summary.json` of an evolution run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from msgspec import structs
from numpy.typing import NDArray

from evolution.protocol.jobs import NetEvaluation, evaluation_path, load_evaluation, mean_or_none
from evolution.protocol.pipeline import Protocol
from evolution.protocol.reference import warnings_about
from evolution.protocol.result import (
    ComparedNet,
    Measured,
    NetResult,
    Nets,
    ReferenceResult,
    Selections,
    Summary,
    TransferRates,
)
from evolution.protocol.roles import ROLES, TrialId, id_of, tested_nets
from robustkit.models.cost import Cost
from robustkit.runs import Entry, Ledger
from robustkit.stats import Gap, paired_gap, pooled_rate, wilson

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Comparison:
    """The `nets` by role, paired gaps, and the common set.

    `gap` is T(R→R') - T(R→E), None without R'; `search_gap` is T(R→RS) - T(R→E): evolution against
    random search; `penalty_gap` is T(R→E0) - T(R→E): the penalty, on the evolved architecture.
    `common` bool (N,): images that R and every training of every net compared classify correctly.
    """

    nets: dict[str, NetResult]
    gap: Gap | None
    search_gap: Gap
    penalty_gap: Gap
    common: Mask


def compare(
    evaluations: Mapping[str, Sequence[NetEvaluation]],
    surrogate_fooled: Mask,
    flipped_fooled: Mask,
    *,
    sizes: Mapping[str, Cost],
    seed: int,
) -> Comparison:
    """Compare R with R2, R', E, E0 and RS; R2 and R' may be missing.

    `evaluations` has one per training by role, "R" exactly one, and `sizes` their cost.
    `surrogate_fooled`, `flipped_fooled` bool (N,) say which adversarials fool the net they were
    made on. Rates are over three denominators (methods §1): `headline` over the common set,
    `fooling` over those of it whose adversarial fools its source, `all` over all images.
    """
    common = np.logical_and.reduce(
        [_stack(group, "correct").all(axis=0) for group in evaluations.values()]
    )
    (reference,) = evaluations["R"]
    source_fooled = ~reference.under_own.numpy()
    nets: dict[str, NetResult] = {}
    for role, group in evaluations.items():
        measured = _measured(group, sizes[role])
        if role == "R":
            nets[role] = measured
            continue
        own_fooled = ~_stack(group, "under_own")
        nets[role] = ComparedNet(
            **structs.asdict(measured),
            transfer_from_R=_rates(group, "under_R", source_fooled[None], common),
            transfer_from_R_flipped=_rates(group, "under_flipped", flipped_fooled[None], common),
            transfer_from_surrogate=_rates(
                group, "under_surrogate", surrogate_fooled[None], common
            ),
            transfer_to_R=_rates(group, "R_under_own", own_fooled, common),
        )

    def gap(role: str) -> Gap:
        wrong = [
            ~_stack(evaluations[compared_role], "under_R")[:, common]
            for compared_role in (role, "E")
        ]
        return paired_gap(wrong[0], wrong[1], seed=seed)

    published = gap("Rp") if "Rp" in evaluations else None
    return Comparison(nets, published, gap("RS"), gap("E0"), common)


def _stack(group: Sequence[NetEvaluation], field: str) -> Mask:
    """Return one field of several evaluations, bool (S,N)."""
    return np.stack([getattr(evaluation, field).numpy() for evaluation in group])


def _rates(group: Sequence[NetEvaluation], field: str, fooled: Mask, common: Mask) -> TransferRates:
    """Return the share of images that are not right by `field`; `fooled` is (1,N) or (S,N)."""
    wrong = ~_stack(group, field)
    whole = np.ones_like(wrong)
    return TransferRates(
        headline=pooled_rate(wrong, whole & common),
        fooling=pooled_rate(wrong, whole & common & fooled),
        all=pooled_rate(wrong, whole),
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


def summarise(
    protocol: Protocol, ledger: Ledger, fooled: Mapping[str, Mask], wall: float
) -> Summary:
    """Return the results of a finished run; all but `seconds` depend on the config alone.

    `fooled` holds bool (N,) arrays "surrogate" and "flipped"; `wall` is in seconds.
    """
    entries, space = ledger.trials(), protocol.space
    names, ids = tested_nets(entries), {entry.id: id_of(entry) for entry in entries}
    run, images = space.folder.path, len(space.splits.test)
    evaluations = {
        role: [load_evaluation(evaluation_path(run, name), images) for name in names[role]]
        for role in ROLES
        if role not in protocol.reference.left_out
    }
    costs = {
        ids[entry.id].net: Cost(entry.result["params"], entry.result["macs"])
        for entry in entries
        if ids[entry.id].stage == "test" and entry.result is not None
    }
    comparison = compare(
        evaluations,
        fooled["surrogate"],
        fooled["flipped"],
        sizes={role: costs[names[role][0]] for role in evaluations},
        seed=protocol.config.seed,
    )
    accuracy = wilson(protocol.prepared["accuracy"], len(space.splits.val))
    searched = [entry for entry in entries if ids[entry.id].stage == "search"]
    return Summary(
        trials=len(searched),
        trials_by_arm=dict(Counter(entry.stage for entry in searched)),
        trials_on_lower_rungs=sum(fields.stage == "rung" for fields in ids.values()),
        trials_from_cache=len(searched) - len({entry.key for entry in searched}),
        outcomes=dict(sorted(Counter(entry.outcome for entry in searched).items())),
        nets=Nets.from_json({role: n.to_json() for role, n in comparison.nets.items()}, "nets"),
        gap=comparison.gap,
        search_gap=comparison.search_gap,
        penalty_gap=comparison.penalty_gap,
        left_out=dict(protocol.reference.left_out),
        warnings=warnings_about(
            accuracy, space.splits.train.num_classes, protocol.reference.published
        ),
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
    )


def summary_json(summary: Summary, protocol: Protocol) -> dict[str, object]:
    """Return the values of `summary.json`, with all that the trials of R's architecture measured.

    Among them are the user's own objectives, which no type names.
    """
    baseline = {
        name: {key: value for key, value in result.items() if key != "curves"}
        for name, result in sorted(protocol.baseline.items())
    }
    return summary.to_json() | {"baseline": baseline}


def seconds_by_phase(entries: Sequence[Entry]) -> dict[str, float]:
    """Return the seconds of computation of each part of the run, summed over workers."""
    seconds = dict.fromkeys(
        ("reference", "search", "random_search", "promotion", "finalists", "judging"), 0.0
    )
    for entry in entries:
        seconds[_phase(id_of(entry))] += entry.seconds
    return seconds


def _phase(fields: TrialId) -> str:
    if fields.stage in ("search", "rung"):
        return "random_search" if fields.search == "random" else "search"
    return {"promotion": "promotion", "final": "finalists", "test": "judging"}.get(
        fields.stage, "reference"
    )
