"""How images and weights lie in memory: channels outermost, or innermost ("channels last")."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def in_layout(model: nn.Module, channels_last: bool) -> Iterator[None]:
    """Inside, the model's weights lie with their channels last, if so wanted; after it as usual.

    The parameters stay the very same, and so do their values.
    """
    if not channels_last:
        yield
        return
    _lay(model, torch.channels_last)
    try:
        yield
    finally:
        _lay(model, torch.contiguous_format)


def laid_out(images: Tensor) -> Tensor:
    """Images (N,C,H,W) with their channels last."""
    return images.contiguous(memory_format=torch.channels_last)


def _lay(model: nn.Module, layout: torch.memory_format) -> None:
    # Not `model.to(memory_format=…)`, which fails on weights of five axes.
    for weight in model.parameters():
        if weight.dim() == 4:
            weight.data = weight.data.contiguous(memory_format=layout)
            if weight.grad is not None:
                weight.grad = weight.grad.contiguous(memory_format=layout)
