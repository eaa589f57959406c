"""Gradients of the loss with respect to the image, one row per image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustkit.attacks.losses import LOSSES


def loss_gradient(
    model: nn.Module, images: Tensor, labels: Tensor, loss: str = "ce"
) -> tuple[Tensor, Tensor]:
    """∂L(model(x),y)/∂x of each image (N,C,H,W), and the logits (N,K) they were taken at.

    Row i is the gradient of image i's own loss: rows are summed, not averaged, before the
    backward pass, and a model in evaluation mode does not mix them.
    """
    images = images.detach().requires_grad_(True)
    with torch.enable_grad():
        logits = model(images)
        cotangent = loss_cotangent(logits.detach(), labels, loss)
        (gradient,) = torch.autograd.grad(logits, images, cotangent)
    return gradient, logits.detach()


def loss_cotangent(logits: Tensor, labels: Tensor, loss: str) -> Tensor:
    """∂L/∂z of each row, (N,K)."""
    if loss == "ce":
        return cross_entropy_cotangent(logits, labels)
    leaf = logits.detach().requires_grad_(True)
    (cotangent,) = torch.autograd.grad(LOSSES.find(loss)(leaf, labels).sum(), leaf)
    return cotangent


def cross_entropy_cotangent(logits: Tensor, labels: Tensor) -> Tensor:
    """softmax(z) minus one-hot(y), (N,K), differentiable in `logits`.

    The entry of y is computed as minus the sum of the others: p_y - 1 cancels to zero in float32
    once a model is confident, and the gradient's direction with it.
    """
    others = logits.softmax(dim=1).scatter(1, labels[:, None], 0.0)
    return others.scatter(1, labels[:, None], -others.sum(dim=1, keepdim=True))
