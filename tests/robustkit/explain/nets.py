"""Small nets of every kind that an explanation has to get through, in float64."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tests.robustkit.explain.oracle import Residual

SIDE, CLASSES = 8, 3


def made(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A net in evaluation mode with random weights, biases and batch statistics."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = build().double().eval()
        with torch.no_grad():
            for module in net.modules():
                if isinstance(module, nn.BatchNorm2d):
                    assert module.running_mean is not None
                    assert module.running_var is not None
                    for tensor in (module.running_mean, module.weight, module.bias):
                        tensor.normal_(0.2, 0.5)
                    module.running_var.uniform_(0.3, 2)
    return net


def images(count: int = 2, seed: int = 1, channels: int = 1) -> Tensor:
    """Random images (N,C,8,8) in [0,1], float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, channels, SIDE, SIDE, generator=generator, dtype=torch.float64)


def mlp(act: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(SIDE**2, 12),
        act(),
        nn.Linear(12, 7),
        act(),
        nn.Linear(7, CLASSES),
    )


def cnn(act: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    """Batch norm, a residual block, both pools, a convolution without a bias."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        act(),
        nn.MaxPool2d(2),
        Residual(
            nn.Conv2d(4, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
            act(),
            nn.Conv2d(4, 4, 3, padding=1),
        ),
        act(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(16, CLASSES),
    )
