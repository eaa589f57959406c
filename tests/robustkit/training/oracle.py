"""The misalignment penalty from its definition: image by image, reference by reference, float64."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def slow_gradient(net: nn.Module, image: Tensor, label: Tensor) -> Tensor:
    leaf = image.clone().requires_grad_(True)
    loss = F.cross_entropy(net(leaf[None]), label[None])
    (gradient,) = torch.autograd.grad(loss, leaf)
    return gradient.flatten()


def slow_cosine(first: Tensor, second: Tensor) -> float:
    dot = sum(float(a) * float(b) for a, b in zip(first, second, strict=True))
    squares = [sum(float(a) ** 2 for a in each) for each in (first, second)]
    return dot / math.sqrt(squares[0] * squares[1])


def slow_phi(cosines: Sequence[float], phi: str) -> float:
    if phi == "logsumexp":
        return math.log(sum(math.exp(each) for each in cosines))
    costs = {
        "square": [each * each for each in cosines],
        "abs": [max(each, -each) for each in cosines],
        "relu": [max(each, 0.0) for each in cosines],
    }
    return sum(costs[phi]) / len(cosines)


def slow_penalty(
    net: nn.Module,
    references: Sequence[nn.Module],
    images: Tensor,
    labels: Tensor,
    phi: str,
    masked: Sequence[int] = (),
) -> float:
    rows = []
    for i in range(len(images)):
        if i not in masked:
            own = slow_gradient(net, images[i], labels[i])
            cosines = [slow_cosine(own, slow_gradient(r, images[i], labels[i])) for r in references]
            rows.append(slow_phi(cosines, phi))
    return sum(rows) / len(rows) if rows else 0.0
