"""Fitness functions by name: what a swarm maximises."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from robustkit.errors import RepairError
from robustkit.registry import Registry

TINY = 1e-12  # of a loss: a model may be certain of every positive


@dataclass(frozen=True, eq=False)
class Tally:
    """The effect of P candidates on |neg| failures and |pos| successes; all float64.

    `patched`, `intact` (P,): counts of failures and of successes that are right. `loss_neg`,
    `loss_pos` (P,): mean cross-entropies in nats, 0 where there are no such images, and
    `before_neg`, `before_pos` the unrepaired model's. `budget` is the share of the successes that
    may break, for a fitness that minds it.
    """

    n_neg: int
    n_pos: int
    patched: Tensor
    intact: Tensor
    loss_neg: Tensor
    loss_pos: Tensor
    before_neg: float
    before_pos: float
    budget: float = 0.0


Fitness = Callable[[Tally], Tensor]
FITNESS: Registry[Fitness] = Registry("fitness", RepairError)


@FITNESS.register("arachne")
def arachne(tally: Tally) -> Tensor:
    """Return (patched + 1) / (L_neg + 1) + (intact + 1) / (L_pos + 1), Arachne's equation.

    `intact` counts what is still right; the source's text has it the other way round, which would
    reward breakage.
    """
    return (tally.patched + 1) / (tally.loss_neg + 1) + (tally.intact + 1) / (tally.loss_pos + 1)


@FITNESS.register("history")
def history(tally: Tally) -> Tensor:
    """Return (patched/|neg|) / (L'/L)_neg + (intact/|pos|) / (L'/L)_pos; 1 without a repair."""
    neg = _share(tally.patched, tally.n_neg) / _ratio(tally.loss_neg, tally.before_neg)
    pos = _share(tally.intact, tally.n_pos) / _ratio(tally.loss_pos, tally.before_pos)
    return neg + pos


@FITNESS.register("accuracy")
def accuracy(tally: Tally) -> Tensor:
    """Return the number of correct images, ties broken by the lower loss; in neither paper."""
    total = tally.n_neg + tally.n_pos
    loss = (tally.n_neg * tally.loss_neg + tally.n_pos * tally.loss_pos) / total
    return tally.patched + tally.intact + 1 / (1 + loss)


@FITNESS.register("guarded")
def guarded(tally: Tally) -> Tensor:
    """Return failures patched while at most the budget of successes breaks; in neither paper.

    Every success broken beyond the budget costs more than all failures are worth, so a candidate
    within the budget beats any beyond it. For equal numbers the lower loss wins.
    """
    broken = tally.n_pos - tally.intact
    beyond = (broken - allowed(tally.budget, tally.n_pos)).clamp_min(0)
    worth = tally.patched - (tally.n_neg + 1) * beyond
    return worth + 1 / (1 + tally.loss_neg + tally.loss_pos)


def tally(
    right: Tensor,
    loss: Tensor,
    neg: Tensor,
    pos: Tensor,
    before: tuple[float, float],
    budget: float = 0.0,
) -> Tally:
    """Count scores (P,n) of candidates over the images `neg` and `pos`, bool (n,)."""
    return Tally(
        n_neg=int(neg.sum()),
        n_pos=int(pos.sum()),
        patched=right[:, neg].sum(dim=1, dtype=torch.float64),
        intact=right[:, pos].sum(dim=1, dtype=torch.float64),
        loss_neg=mean_loss(loss, neg),
        loss_pos=mean_loss(loss, pos),
        before_neg=before[0],
        before_pos=before[1],
        budget=budget,
    )


def allowed(budget: float, count: int) -> int:
    """Return how many of `count` successes a budget lets break; 0.29 of 100 are 29."""
    return math.floor(budget * count + 1e-9)


def mean_loss(loss: Tensor, among: Tensor) -> Tensor:
    """Return the mean of losses (P,n) over images `among`, bool (n,), float64 (P,); 0 over none."""
    return loss[:, among].sum(dim=1, dtype=torch.float64) / max(int(among.sum()), 1)


def _share(count: Tensor, among: int) -> Tensor:
    return count / max(among, 1)


def _ratio(after: Tensor, before: float) -> Tensor:
    return after.clamp_min(TINY) / max(before, TINY)
