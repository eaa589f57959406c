"""`summary.json` of an evolution run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evolution.protocol.jobs import Verdict, load_verdict, mean_or_none, verdict_path
from evolution.protocol.pipeline import Evolution
from evolution.protocol.reference import judged_names, warnings_about
from evolution.protocol.trials import lower_rungs
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
    verdicts: Mapping[str, Sequence[Verdict]],
    surrogate_fooled: Mask,
    flipped_fooled: Mask,
    *,
    seed: int,
) -> Comparison:
    """Compare R with R2, R', E, E0 and RS; R2 and R' may be missing.

    `verdicts` has the players' names for keys and one verdict per training, "R" exactly one.
    `surrogate_fooled`, `flipped_fooled` bool (N,) say which adversarials fool the net they were
    made on. Rates are over three denominators (methods §1): `headline` over the common set,
    `fooling` over those of it whose adversarial fools its source, `all` over all images.
    """
    common = np.logical_and.reduce(
        [_stack(group, "correct").all(axis=0) for group in verdicts.values()]
    )
    (reference,) = verdicts["R"]
    sources = {
        "transfer_from_R": ("under_R", ~reference.under_own.numpy()),
        "transfer_from_R_flipped": ("under_flipped", flipped_fooled),
        "transfer_from_surrogate": ("under_surrogate", surrogate_fooled),
    }
    nets = {}
    for name, group in verdicts.items():
        nets[name] = _accuracies(group)
        if name != "R":
            for what, (field, fooled) in sources.items():
                nets[name][what] = _rates(~_stack(group, field), fooled[None], common)
            own_fooled = ~_stack(group, "under_own")
            nets[name]["transfer_to_R"] = _rates(~_stack(group, "R_under_own"), own_fooled, common)
        nets[name] |= _gradients(group)

    def gap(name: str) -> Gap:
        wrong = [~_stack(verdicts[each], "under_R")[:, common] for each in (name, "E")]
        return paired_gap(wrong[0], wrong[1], seed=seed)

    published = gap("Rp") if "Rp" in verdicts else None
    return Comparison(nets, published, gap("RS"), gap("E0"), common)


def _stack(group: Sequence[Verdict], field: str) -> Mask:
    """One field of several verdicts, bool (S,N)."""
    return np.stack([getattr(verdict, field).numpy() for verdict in group])


def _rates(wrong: Mask, fooled: Mask, common: Mask) -> dict[str, dict[str, Any]]:
    """The share of `wrong` (S,N) under the three denominators; `fooled` is (1,N) or (S,N)."""
    whole = np.ones_like(wrong)
    among = {"headline": whole & common, "fooling": whole & common & fooled, "all": whole}
    return {name: pooled_rate(wrong, among[name]).to_json() for name in DENOMINATORS}


def _accuracies(group: Sequence[Verdict]) -> dict[str, Any]:
    clean = _stack(group, "correct").mean(axis=1)
    robust = (_stack(group, "correct") & _stack(group, "under_own")).mean(axis=1)
    return {
        "clean_acc": float(clean.mean()),
        "clean_acc_by_seed": [float(each) for each in clean],
        "whitebox_acc": float(robust.mean()),
    }


def _gradients(group: Sequence[Verdict]) -> dict[str, float | None]:
    cosines = torch.cat([verdict.cosine for verdict in group])
    return {
        "cos_mean": mean_or_none(cosines),
        "cos_abs_mean": mean_or_none(cosines.abs()),
        "grad_norm_mean": mean_or_none(torch.cat([verdict.norm for verdict in group])),
        "zero_gradients": float(torch.isnan(cosines).double().mean()),
    }


SEARCHES = ("evolve", "random")


def summarise(
    evolution: Evolution, ledger: Ledger, fooled: Mapping[str, Any], wall: float
) -> dict[str, Any]:
    """The figures of a finished run; everything but `seconds` depends on the config alone.

    `fooled` holds bool (N,) arrays "surrogate" and "flipped"; `wall` is in seconds. `left_out` has
    the players that there are not, with the reason; `gap` is None without R'.
    """
    trials = ledger.trials()
    names = judged_names(trials)
    run, images = evolution.space.folder.path, len(evolution.space.splits.test)
    verdicts = {
        player: [load_verdict(verdict_path(run, name), images) for name in names[player]]
        for player in ("R", "R2", "Rp", "E", "E0", "RS")
        if player not in evolution.reference.left_out
    }
    comparison = compare(
        verdicts, fooled["surrogate"], fooled["flipped"], seed=evolution.config.seed
    )
    results = {trial.id: trial.result or {} for trial in trials}
    for player, net in comparison.nets.items():
        judged = results[f"judge/{names[player][0]}"]
        net |= {"params": judged["params"], "macs": judged["macs"], "seeds": len(names[player])}
    accuracy = wilson(evolution.prepared["accuracy"], len(evolution.space.splits.val))
    searched = [trial for trial in trials if trial.arm in SEARCHES]
    lower = [trial for trial in trials if trial.arm in map(lower_rungs, SEARCHES)]
    return {
        "trials": len(searched),
        "trials_by_arm": dict(Counter(trial.arm for trial in searched)),
        "trials_on_lower_rungs": len(lower),
        "trials_from_cache": len(searched) - len({trial.key for trial in searched}),
        "outcomes": dict(sorted(Counter(trial.outcome for trial in searched).items())),
        "nets": comparison.nets,
        "gap": None if comparison.gap is None else comparison.gap.to_json(),
        "search_gap": comparison.search_gap.to_json(),
        "penalty_gap": comparison.penalty_gap.to_json(),
        "left_out": dict(evolution.reference.left_out),
        "warnings": warnings_about(
            accuracy,
            evolution.space.splits.train.num_classes,
            evolution.reference.published,
        ),
        "common_images": int(comparison.common.sum()),
        "test_images": len(comparison.common),
        "data": evolution.space.splits.name,
        "data_digest": evolution.space.splits.test.digest(),
        "reference": evolution.prepared
        | {
            "given": evolution.reference.given,
            "validation_images": accuracy.n,
            "published": evolution.reference.published,
            "notes": list(evolution.reference.notes),
        },
        "baseline": {
            name: {key: value for key, value in result.items() if key != "curves"}
            for name, result in sorted(evolution.baseline.items())
        },
        "selection": {name: choice.to_dict() for name, choice in sorted(evolution.choices.items())},
        "failed_finalists": [
            trial.id for trial in trials if trial.arm == "final" and trial.outcome != "Ok"
        ],
        "seconds": seconds_by_phase(trials) | {"wall": wall},
    }


def seconds_by_phase(trials: Sequence[Entry]) -> dict[str, float]:
    """Seconds of computation, summed over workers, for each part of the run."""
    phases = {
        "reference": ("reference", "baseline"),
        "search": ("evolve", "rungs-evolve"),
        "random_search": ("random",),
        "promotion": ("promote-evolve", "promote-random"),
        "finalists": ("final",),
        "judging": ("judge",),
    }
    return {
        phase: sum(trial.seconds for trial in trials if trial.arm in arms)
        for phase, arms in phases.items()
    }
