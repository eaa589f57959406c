"""Per-sample losses on logits: what an attack ascends and whose gradient the penalty compares."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from robustkit.errors import AttackError, did_you_mean

Loss = Callable[[Tensor, Tensor], Tensor]

LOSSES: dict[str, Loss] = {}


def register(name: str) -> Callable[[Loss], Loss]:
    """Enter a loss under `name`; a second one of that name is a bug."""

    def enter(loss: Loss) -> Loss:
        if name in LOSSES:
            raise ValueError(f"loss '{name}' is registered twice")
        LOSSES[name] = loss
        return loss

    return enter


@register("ce")
def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each row, (N,), in nats."""
    return F.cross_entropy(logits, labels, reduction="none")


@register("margin")
def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """max over j≠y of z_j, minus z_y, (N,): positive exactly where the row is misclassified.

    Its gradient does not vanish on a confident network, as cross-entropy's does (Carlini and
    Wagner 2017, f6 without its floor).
    """
    own = logits.gather(1, labels[:, None]).squeeze(1)
    masked = logits.scatter(1, labels[:, None], float("-inf"))
    return masked.amax(dim=1) - own


def check_loss(name: str) -> None:
    """Raise `AttackError` unless `name` is a registered loss."""
    get_loss(name)


def get_loss(name: str) -> Loss:
    """The loss called `name`; raises `AttackError` with the list of names otherwise."""
    if name not in LOSSES:
        raise AttackError(f"unknown loss '{name}'{did_you_mean(name, LOSSES)}")
    return LOSSES[name]
