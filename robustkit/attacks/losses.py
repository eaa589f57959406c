"""Per-sample losses on logits: what an attack ascends and whose gradient the penalty compares."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from robustkit.errors import AttackError
from robustkit.registry import Registry

Loss = Callable[[Tensor, Tensor], Tensor]

LOSSES: Registry[Loss] = Registry("loss", AttackError)


@LOSSES.register("ce")
def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each row, (N,), in nats."""
    return F.cross_entropy(logits, labels, reduction="none")


@LOSSES.register("margin")
def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """max over j≠y of z_j, minus z_y, (N,): positive exactly where the row is misclassified.

    Its gradient does not vanish on a confident network, as cross-entropy's does (Carlini and
    Wagner 2017, f6 without its floor).

    >>> import torch
    >>> margin(torch.tensor([[2.0, 0.5], [2.0, 0.5]]), torch.tensor([0, 1]))
    tensor([-1.5000,  1.5000])
    """
    own = logits.gather(1, labels[:, None]).squeeze(1)
    masked = logits.scatter(1, labels[:, None], float("-inf"))
    return masked.amax(dim=1) - own
