"""How two models' input gradients lie to each other, and how long they are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustkit.attacks.gradients import loss_gradient
from robustkit.attacks.predict import BATCH
from robustkit.attacks.purity import pure
from robustkit.compute import device_of
from robustkit.data import ImageSet, batches

# Below any norm of float32 gradients that is not zero.
LEAST = 1e-48


@dataclass(frozen=True)
class GradientAlignment:
    """Per image (n,): `cosine` between the two gradients and the L2 `norm` of the first model's.

    The cosine is NaN where either gradient is exactly zero, and such rows are to be left out.
    """

    cosine: Tensor
    norm: Tensor


def input_gradients(model: nn.Module, images: ImageSet, loss: str = "ce") -> Tensor:
    """∂L/∂x of every image, float32 (N,C,H,W) on the CPU; the model is left as it was."""
    device = device_of(model)
    parts = []
    with pure(model):
        for part in batches(len(images), BATCH):
            labels = images.labels[part].to(device)
            parts.append(loss_gradient(model, images.floats(part).to(device), labels, loss)[0])
    return torch.cat([part.cpu() for part in parts])


def alignment(gradients: Tensor, others: Tensor) -> GradientAlignment:
    """Cosines of two stacks of gradients (N,C,H,W) row by row, in float64, and norms of the first.

    Float64, because norms of confident models' gradients underflow when squared in float32.
    """
    first, second = gradients.flatten(1).double(), others.flatten(1).double()
    norm, other = first.norm(dim=1), second.norm(dim=1)
    product = (first / norm.clamp_min(LEAST)[:, None] * second).sum(dim=1)
    cosine = torch.where((norm > 0) & (other > 0), product / other, torch.nan)
    return GradientAlignment(cosine, norm)
