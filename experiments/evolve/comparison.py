"""From verdicts on every net to the figures of the summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from experiments.evolve.judging import Verdict, mean_or_none
from robustkit.attacks import Gap, paired_gap, pooled_rate

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
    return {name: pooled_rate(wrong, among[name]).to_dict() for name in DENOMINATORS}


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
