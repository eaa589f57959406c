"""The optimiser and its learning rate, step by step."""

from __future__ import annotations

import math

import torch
from torch import nn

from robustkit.training.config import TrainConfig


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """SGD or Adam over all parameters, with weight decay on all of them (for Adam decoupled)."""
    if config.optimizer == "adam":
        return torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    return torch.optim.SGD(
        model.parameters(),
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.nesterov,
        weight_decay=config.weight_decay,
    )


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """The rate of step `step` (from 0): linear warm-up, then the schedule over what remains."""
    total = config.epochs * steps_per_epoch
    warmup = min(round(config.warmup * steps_per_epoch), total // 2)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    done = (step - warmup) / max(total - warmup, 1)
    if config.schedule == "cosine":
        return config.lr * 0.5 * (1 + math.cos(math.pi * done))
    if config.schedule == "step":
        return config.lr * 0.1 ** ((done >= 0.5) + (done >= 0.75))
    return config.lr


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group the rate `rate`."""
    for group in optimizer.param_groups:
        group["lr"] = rate
