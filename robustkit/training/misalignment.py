"""The gradient-misalignment penalty (Operiano, Pora, Iba and Kera 2021; methods §1).

For a trained net M and fixed references R_1…R_J, with g_M(x) = ∂L(M(x),y)/∂x flattened per image:

    penalty = mean over unmasked rows i of φ(cos(g_M(x_i), g_R1(x_i)), …, cos(g_M(x_i), g_RJ(x_i)))

The references' gradients come ready-made and unit-normalised (`references.py`); only g_M is
computed here, with a graph, so that the training step can differentiate through it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from robustkit.attacks.gradients import LOSSES, cross_entropy_cotangent
from robustkit.errors import ConfigError
from robustkit.registry import Registry

# Below this norm a float32 gradient has underflowed: its direction is noise, so its row is masked.
MIN_NORM = 1e-20

# Each φ maps cosines (J,n), one row a reference, to the penalty of each image (n,).
PHI: Registry[Callable[[Tensor], Tensor]] = Registry(
    "phi",
    ConfigError,
    {
        # Orthogonality is the target: both signs of the cosine cost the same.
        "square": lambda cosines: cosines.square().mean(dim=0),
        "abs": lambda cosines: cosines.abs().mean(dim=0),
        # Only alignment costs; opposite gradients are welcome.
        "relu": lambda cosines: cosines.relu().mean(dim=0),
        # Smooth maximum over references (Kariyappa and Qureshi 2019, equation 6).
        "logsumexp": lambda cosines: cosines.logsumexp(dim=0),
    },
)


@dataclass(frozen=True)
class Misalignment:
    """`penalty` is a scalar with a graph; `masked` of `rows` images had no usable gradient."""

    penalty: Tensor
    masked: int
    rows: int


def differentiable_gradient(logits: Tensor, images: Tensor, labels: Tensor, loss: str) -> Tensor:
    """Return g_M (N,C,H,W) of images that `logits` (N,K) were computed from, with a graph.

    Cross-entropy's is taken through the same stable cotangent as the references' gradients: of the
    usual one, only rounding is left where the net is surer than float32 can tell from certainty.
    """
    if loss == "ce":
        cotangent = cross_entropy_cotangent(logits, labels)
        (gradient,) = torch.autograd.grad(logits, images, cotangent, create_graph=True)
        return gradient
    total = LOSSES[loss](logits, labels).sum()
    (gradient,) = torch.autograd.grad(total, images, create_graph=True)
    return gradient


def misalignment(
    gradient: Tensor, directions: Tensor, usable: Tensor, phi: str = "square"
) -> Misalignment:
    """Return the penalty of one batch.

    `gradient` (N,C,H,W) is g_M; `directions` (J,N,C,H,W) are the references' unit gradients, of any
    float type; `usable` (J,N) is False where a reference's gradient underflowed. A row is masked
    if any of its J+1 gradients has no direction; with every row masked the penalty is zero.
    """
    flat = gradient.flatten(1).float()
    norms = flat.norm(dim=1)
    keep = usable.all(dim=0) & (norms.detach() > MIN_NORM)
    kept = int(keep.sum())
    masked = len(flat) - kept
    if masked:
        flat, norms, directions = flat[keep], norms[keep], directions[:, keep]
    if not kept:
        return Misalignment(gradient.sum() * 0.0, masked, len(gradient))
    dots = torch.einsum("nd,jnd->jn", flat, directions.flatten(2).float())
    return Misalignment(PHI[phi](dots / norms).mean(), masked, len(gradient))
