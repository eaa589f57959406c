"""Gradients of the loss with respect to the image, one row per image."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.attacks.ensemble import heads_of
from robustkit.attacks.predictions import check_logits
from robustkit.errors import AttackError, ModelError
from robustkit.registry import Registry

Loss = Callable[[Tensor, Tensor], Tensor]

LOSSES: Registry[Loss] = Registry("loss", AttackError)


@LOSSES.register("ce")
def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return cross-entropy of each row, (N,), in nats."""
    return F.cross_entropy(logits, labels, reduction="none")


@LOSSES.register("margin")
def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return max over j≠y of z_j, minus z_y, (N,): positive exactly where the row is misclassified.

    Its gradient does not vanish on a confident network, as cross-entropy's does (Carlini and
    Wagner 2017, f6 without its floor).

    >>> import torch
    >>> margin(torch.tensor([[2.0, 0.5], [2.0, 0.5]]), torch.tensor([0, 1]))
    tensor([-1.5000,  1.5000])
    """
    label_logit = logits.gather(1, labels[:, None]).squeeze(1)
    masked = logits.scatter(1, labels[:, None], float("-inf"))
    return masked.amax(dim=1) - label_logit


@LOSSES.register("logit")
def negated_logit(logits: Tensor, labels: Tensor) -> Tensor:
    """Return minus the label's logit, (N,): descended towards a target (Zhao et al. 2021)."""
    return -logits.gather(1, labels[:, None]).squeeze(1)


@LOSSES.register("dlr")
def logits_ratio(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the difference of logits ratio, (N,): the margin in units of z_(1) - z_(3).

    Croce and Hein 2020, equation 6; of two classes the margin's own size takes the unit's place.

    >>> import torch
    >>> logits_ratio(torch.tensor([[3.0, 1.0, 0.0]]), torch.tensor([0]))
    tensor([-0.6667])
    """
    ordered = logits.topk(min(3, logits.shape[1]), dim=1).values
    unit = (ordered[:, 0] - ordered[:, -1]).clamp_min(1e-12)
    return margin(logits, labels) / unit


# What an attack does to images before the model sees them, differentiable: (N,C,H,W) to the same.
View = Callable[[Tensor], Tensor]


def loss_gradient(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    loss: str = "ce",
    *,
    view: View | None = None,
    bf16: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return ∂L(model(x),y)/∂x of each image (N,C,H,W), and the logits (N,K) they were taken at.

    Row i is the gradient of image i's own loss: rows are summed, not averaged, before the
    backward pass, and a model in evaluation mode does not mix them. With a `view` it is that of
    L(model(view(x)),y). `bf16` runs the model's products in bfloat16; the loss stays in float32.
    Raises `ModelError` for a model that gives no (N,K) logits, or none with a gradient.
    """
    images = images.detach().requires_grad_(True)
    with torch.enable_grad():
        shown = images if view is None else view(images)
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=bf16):
            heads = heads_of(model, shown)
        for head in heads:
            check_logits(head, model)
        if not any(head.requires_grad for head in heads):
            raise ModelError(
                f"{type(model).__name__}: its logits have no gradient with respect to the image: "
                "gradient attacks need a differentiable model, torchattacks:Square does not"
            )
        cotangents = [
            (loss_cotangent(head.detach().to(images.dtype), labels, loss) / len(heads)).to(head)
            for head in heads
        ]
        (gradient,) = torch.autograd.grad(heads, images, cotangents)
    return gradient, torch.stack([head.detach().to(images.dtype) for head in heads]).mean(dim=0)


def loss_cotangent(logits: Tensor, labels: Tensor, loss: str) -> Tensor:
    """Return ∂L/∂z of each row, (N,K)."""
    if loss == "ce":
        return cross_entropy_cotangent(logits, labels)
    leaf = logits.detach().requires_grad_(True)
    (cotangent,) = torch.autograd.grad(LOSSES.find(loss)(leaf, labels).sum(), leaf)
    return cotangent


def cross_entropy_cotangent(logits: Tensor, labels: Tensor) -> Tensor:
    """Return softmax(z) minus one-hot(y), (N,K), differentiable in `logits`.

    The entry of y is computed as minus the sum of the others: p_y - 1 cancels to zero in float32
    once a model is confident, and the gradient's direction with it.
    """
    others = logits.softmax(dim=1).scatter(1, labels[:, None], 0.0)
    return others.scatter(1, labels[:, None], -others.sum(dim=1, keepdim=True))
