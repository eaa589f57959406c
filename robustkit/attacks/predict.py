"""Logits of a model on many images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustkit.attacks.purity import pure
from robustkit.compute import device_of
from robustkit.data import to_unit

BATCH = 500


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> Tensor:
    """Logits (N,K) on the CPU of `images` (N,C,H,W), uint8 or float in [0,1].

    In evaluation mode and in slices, so that N may exceed memory; the model is left as it was.
    """
    parts = []
    device = device_of(model)
    with pure(model):
        for start in range(0, len(images), BATCH):
            part = images[start : start + BATCH].to(device)
            pixels = to_unit(part) if part.dtype == torch.uint8 else part
            parts.append(model(pixels).float().cpu())
    return torch.cat(parts)
