"""Contributions from the definition: layer by layer, as dense matrices, with every division."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Residual(nn.Module):
    """x + branch(x)."""

    def __init__(self, *branch: nn.Module) -> None:
        super().__init__()
        self.branch = nn.Sequential(*branch)

    def forward(self, x: Tensor) -> Tensor:
        """The sum."""
        y: Tensor = x + self.branch(x)
        return y


@dataclass
class Naive:
    """R of the input of every layer of a chain, and what the biases behind it contribute."""

    raw: list[Tensor]
    biases: list[Tensor]


AT_ZERO = {nn.Sigmoid: 0.5, nn.Softplus: float(torch.log(torch.tensor(2.0, dtype=torch.float64)))}
LINEAR = (nn.Linear, nn.Conv2d, nn.BatchNorm2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
SHAPES = (nn.Flatten, nn.Identity, nn.Dropout)


def naive(layers: nn.Sequential, x: Tensor, target: int, *, paper: bool = False) -> Naive:
    """Contributions to the logit `target` of the one image `x` (1,…), in float64.

    β(x_i → y_j) = x_i w_ji / y_j, a bias is an input that is always 1, activations pass 1, the
    winner of a pool gets 1; R(x_i) = Σ_j β(x_i → y_j) R(y_j).
    """
    seen = [x]
    for layer in layers:
        seen.append(layer(seen[-1]))
    raw = torch.zeros_like(seen[-1])
    raw[0, target] = seen[-1][0, target]
    bias = torch.zeros((), dtype=x.dtype)
    raws: list[Tensor] = []
    biases: list[Tensor] = []
    for layer, given, made in reversed(list(zip(layers, seen[:-1], seen[1:], strict=True))):
        raw, more = back(layer, given, made, raw, paper)
        bias = bias + more
        raws.insert(0, raw)
        biases.insert(0, bias)
    return Naive(raws, biases)


def back(layer: nn.Module, x: Tensor, y: Tensor, raw: Tensor, paper: bool) -> tuple[Tensor, Tensor]:
    """From R of a layer's output to R of its input, and to what its bias contributes."""
    none = torch.zeros((), dtype=x.dtype)
    if isinstance(layer, SHAPES):
        return raw.reshape(x.shape), none
    if isinstance(layer, nn.MaxPool2d):
        _, where = F.max_pool2d(
            x, layer.kernel_size, layer.stride, layer.padding, return_indices=True
        )
        flat = torch.zeros(x.shape[0], x.shape[1], x[0, 0].numel(), dtype=x.dtype)
        flat.scatter_add_(2, where.flatten(2), raw.flatten(2))
        return flat.view(x.shape), none
    if isinstance(layer, Residual):
        inner = naive_chain(layer.branch, x, raw * ratio(layer.branch(x), y), paper)
        return raw * ratio(x, y) + inner[0], inner[1]
    if isinstance(layer, LINEAR):
        nothing = layer(torch.zeros_like(x)).flatten()
        basis = torch.eye(x.numel(), dtype=x.dtype).view(-1, *x.shape[1:])
        matrix = layer(basis).flatten(1) - nothing  # (inputs, outputs)
        share = ratio(raw.flatten(), y.flatten())
        return (x.flatten() * (matrix @ share)).view(x.shape), nothing @ share
    base = 0.0 if paper else AT_ZERO.get(type(layer), 0.0)
    share = ratio(raw, y)
    return share * (y - base), (share * base).sum()


def naive_chain(
    layers: nn.Sequential, x: Tensor, raw: Tensor, paper: bool
) -> tuple[Tensor, Tensor]:
    """The same through a whole chain."""
    seen = [x]
    for layer in layers:
        seen.append(layer(seen[-1]))
    bias = torch.zeros((), dtype=x.dtype)
    for layer, given, made in reversed(list(zip(layers, seen[:-1], seen[1:], strict=True))):
        raw, more = back(layer, given, made, raw, paper)
        bias = bias + more
    return raw, bias


def ratio(a: Tensor, b: Tensor) -> Tensor:
    """a / b, where 0 / 0 is nothing to be passed on."""
    return torch.where(b == 0, torch.zeros_like(a), a / torch.where(b == 0, 1.0, b))
