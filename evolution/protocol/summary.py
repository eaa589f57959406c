"""`summary.json` of an evolution run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evolution.protocol.jobs import (
    NetEvaluation,
    evaluation_path,
    load_evaluation,
    mean_or_none,
)
from evolution.protocol.pipeline import Protocol
from evolution.protocol.reference import warnings_about
from evolution.protocol.roles import ROLES, TrialId, id_of, tested_nets
from robustkit.runs import Entry, Ledger
from robustkit.stats import Gap, paired_gap, pooled_rate, wilson

Mask = NDArray[np.bool_]
DENOMINATORS = ("headline", "fooling", "all")


@dataclass(frozen=True)
class Comparison:
    """`nets` by player, as in the summary; paired gaps; the common set.

    `gap` is T(R→R') - T(R→E), None without R'; `search_gap` is T(R→RS) - T(R→E): evolution against
    random search; `penalty_gap` is T(R→E0) - T(R→E): the penalty, on the evolved architecture.
    `common` bool (N,): images that R and every training of every net compared classify correctly.
    """

    nets: dict[str, dict[str, Any]]
    gap: Gap | None
    search_gap: Gap
    penalty_gap: Gap
    common: Mask


def compare(
    evaluations: Mapping[str, Sequence[NetEvaluation]],
    surrogate_fooled: Mask,
    flipped_fooled: Mask,
    *,
    seed: int,
) -> Comparison:
    """Compare R with R2, R', E, E0 and RS; R2 and R' may be missing.

    `evaluations` has the players' names for keys and one verdict per training, "R" exactly one.
    `surrogate_fooled`, `flipped_fooled` bool (N,) say which adversarials fool the net they were
    made on. Rates are over three denominators (methods §1): `headline` over the common set,
    `fooling` over those of it whose adversarial fools its source, `all` over all images.
    """
    common = np.logical_and.reduce(
        [_stack(group, "correct").all(axis=0) for group in evaluations.values()]
    )
    (reference,) = evaluations["R"]
    sources = {
        "transfer_from_R": ("under_R", ~reference.under_own.numpy()),
        "transfer_from_R_flipped": ("under_flipped", flipped_fooled),
        "transfer_from_surrogate": ("under_surrogate", surrogate_fooled),
    }
    nets = {}
    for name, group in evaluations.items():
        nets[name] = _accuracies(group)
        if name != "R":
            for what, (field, fooled) in sources.items():
                nets[name][what] = _rates(~_stack(group, field), fooled[None], common)
            own_fooled = ~_stack(group, "under_own")
            nets[name]["transfer_to_R"] = _rates(~_stack(group, "R_under_own"), own_fooled, common)
        nets[name] |= _gradients(group)

    def gap(name: str) -> Gap:
        wrong = [~_stack(evaluations[each], "under_R")[:, common] for each in (name, "E")]
        return paired_gap(wrong[0], wrong[1], seed=seed)

    published = gap("Rp") if "Rp" in evaluations else None
    return Comparison(nets, published, gap("RS"), gap("E0"), common)


def _stack(group: Sequence[NetEvaluation], field: str) -> Mask:
    """One field of several verdicts, bool (S,N)."""
    return np.stack([getattr(metrics, field).numpy() for metrics in group])


def _rates(wrong: Mask, fooled: Mask, common: Mask) -> dict[str, dict[str, Any]]:
    """The share of `wrong` (S,N) under the three denominators; `fooled` is (1,N) or (S,N)."""
    whole = np.ones_like(wrong)
    among = {"headline": whole & common, "fooling": whole & common & fooled, "all": whole}
    return {name: pooled_rate(wrong, among[name]).to_json() for name in DENOMINATORS}


def _accuracies(group: Sequence[NetEvaluation]) -> dict[str, Any]:
    clean = _stack(group, "correct").mean(axis=1)
    robust = (_stack(group, "correct") & _stack(group, "under_own")).mean(axis=1)
    return {
        "clean_acc": float(clean.mean()),
        "clean_acc_by_seed": [float(each) for each in clean],
        "whitebox_acc": float(robust.mean()),
    }


def _gradients(group: Sequence[NetEvaluation]) -> dict[str, float | None]:
    cosines = torch.cat([metrics.cosine for metrics in group])
    return {
        "cos_mean": mean_or_none(cosines),
        "cos_abs_mean": mean_or_none(cosines.abs()),
        "grad_norm_mean": mean_or_none(torch.cat([metrics.norm for metrics in group])),
        "zero_gradients": float(torch.isnan(cosines).double().mean()),
    }


def summarise(
    protocol: Protocol, ledger: Ledger, fooled: Mapping[str, Any], wall: float
) -> dict[str, Any]:
    """Return the results of a finished run; all but `seconds` depend on the config alone.

    `fooled` holds bool (N,) arrays "surrogate" and "flipped"; `wall` is in seconds. `left_out` has
    the roles that there are not, with the reason; `gap` is None without R'.
    """
    entries = ledger.trials()
    names = tested_nets(entries)
    run, images = protocol.space.folder.path, len(protocol.space.splits.test)
    evaluations = {
        role: [load_evaluation(evaluation_path(run, name), images) for name in names[role]]
        for role in ROLES
        if role not in protocol.reference.left_out
    }
    comparison = compare(
        evaluations, fooled["surrogate"], fooled["flipped"], seed=protocol.config.seed
    )
    ids = {entry.id: id_of(entry) for entry in entries}
    sizes = {
        ids[entry.id].net: entry.result or {} for entry in entries if ids[entry.id].stage == "test"
    }
    for role, net in comparison.nets.items():
        size = sizes[names[role][0]]
        net |= {"params": size["params"], "macs": size["macs"], "seeds": len(names[role])}
    accuracy = wilson(protocol.prepared["accuracy"], len(protocol.space.splits.val))
    searched = [entry for entry in entries if ids[entry.id].stage == "search"]
    lower = [entry for entry in entries if ids[entry.id].stage == "rung"]
    return {
        "trials": len(searched),
        "trials_by_arm": dict(Counter(entry.arm for entry in searched)),
        "trials_on_lower_rungs": len(lower),
        "trials_from_cache": len(searched) - len({entry.key for entry in searched}),
        "outcomes": dict(sorted(Counter(entry.outcome for entry in searched).items())),
        "nets": comparison.nets,
        "gap": None if comparison.gap is None else comparison.gap.to_json(),
        "search_gap": comparison.search_gap.to_json(),
        "penalty_gap": comparison.penalty_gap.to_json(),
        "left_out": dict(protocol.reference.left_out),
        "warnings": warnings_about(
            accuracy,
            protocol.space.splits.train.num_classes,
            protocol.reference.published,
        ),
        "common_images": int(comparison.common.sum()),
        "test_images": len(comparison.common),
        "data": protocol.space.splits.name,
        "data_digest": protocol.space.splits.test.digest(),
        "reference": protocol.prepared
        | {
            "given": protocol.reference.given,
            "validation_images": accuracy.n,
            "published": protocol.reference.published,
            "notes": list(protocol.reference.notes),
        },
        "baseline": {
            name: {key: value for key, value in result.items() if key != "curves"}
            for name, result in sorted(protocol.baseline.items())
        },
        "selection": {
            role: selection.to_json() for role, selection in sorted(protocol.selections.items())
        },
        "failed_finalists": [
            entry.id
            for entry in entries
            if ids[entry.id].stage == "final" and entry.outcome != "Ok"
        ],
        "seconds": seconds_by_phase(entries) | {"wall": wall},
    }


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
