"""What a repair did: accuracy, repair rate and break rate, image by image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from robustkit.attacks.rates import wilson


@dataclass(frozen=True, eq=False)
class Verdict:
    """Predictions on N images before and after a repair; all int64 (N,), `neg` bool (N,).

    `neg` are the failures that were to be repaired.

    >>> import torch
    >>> labels, before = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 0])
    >>> after = torch.tensor([0, 0, 0, 0])
    >>> told = Verdict(labels, before, after, neg=before != labels).to_dict()
    >>> told["rr"], told["br"], told["acc_before"], told["acc_after"]
    (0.5, 0.5, 0.5, 0.5)
    """

    labels: Tensor
    before: Tensor
    after: Tensor
    neg: Tensor

    @property
    def pos(self) -> Tensor:
        """Bool (N,): right before the repair."""
        return self.before == self.labels

    @property
    def repaired(self) -> Tensor:
        """Bool (N,): a failure to be repaired that is right now."""
        return self.neg & (self.after == self.labels)

    @property
    def broken(self) -> Tensor:
        """Bool (N,): right before, wrong now."""
        return self.pos & (self.after != self.labels)

    def to_dict(self) -> dict[str, Any]:
        """Accuracies, RR = repaired / |neg| and BR = broken / |pos|, with 95 % Wilson intervals.

        Rates are fractions; null where the denominator is zero.
        """
        n_neg, n_pos = int(self.neg.sum()), int(self.pos.sum())
        rr, br = _rate(int(self.repaired.sum()), n_neg), _rate(int(self.broken.sum()), n_pos)
        return {
            "n": len(self.labels),
            "n_neg": n_neg,
            "n_pos": n_pos,
            "acc_before": float(self.pos.double().mean()),
            "acc_after": float((self.after == self.labels).double().mean()),
            "rr": rr["rate"],
            "br": br["rate"],
            "rr_interval": [rr["low"], rr["high"]],
            "br_interval": [br["low"], br["high"]],
        }


def accuracy_after(n_pos: float, n_neg: float, rr: float, br: float) -> float:
    """ACC = (pos + RR·neg - BR·pos) / (pos + neg), all as fractions.

    The identity that ties the published Table 3 to its Table 1: of GTSRB's images 12,140 are right
    and 490 wrong, and 96.425 % are right after repair by history.

    >>> round(accuracy_after(12140, 490, rr=0.09776, br=0.00077), 4)
    0.9643
    """
    return (n_pos + rr * n_neg - br * n_pos) / (n_pos + n_neg)


def _rate(hits: int, among: int) -> dict[str, Any]:
    return wilson(hits / among if among else 0.0, among).to_dict()
