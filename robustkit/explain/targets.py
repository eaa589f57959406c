"""Whose score is explained."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from robustkit.errors import ExplainError

Target = int | Sequence[int] | Tensor | str


def class_targets(target: Target, logits: Tensor) -> Tensor:
    """Class indices int64 (N,) of a target; raises `ExplainError` where one is out of range."""
    count, classes = logits.shape
    if isinstance(target, str):
        if target != "predicted":
            raise ExplainError(f"target '{target}': a class number, one for each, or 'predicted'")
        return logits.detach().argmax(dim=1)
    given = torch.as_tensor(target)
    if given.is_floating_point() or given.dtype == torch.bool:
        raise ExplainError(f"targets must be class numbers, not {given.dtype}")
    chosen = given.to(logits.device, torch.int64)
    chosen = chosen.expand(count) if chosen.dim() == 0 else chosen
    if chosen.shape != (count,):
        raise ExplainError(f"targets {tuple(chosen.shape)} for {count} images: one for each")
    odd = chosen[(chosen < 0) | (chosen >= classes)]
    if len(odd):
        raise ExplainError(f"target {int(odd[0])} is out of range: there are {classes} classes")
    return chosen
