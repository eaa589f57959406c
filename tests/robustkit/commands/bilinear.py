"""A user's net that pools products of features, two things that both depend on the image."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Bilinear(nn.Module):
    """Bilinear pooling (Lin et al. 2015): the means of all products of two channels."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_channels, 4, 3, padding=1)
        self.head = nn.Linear(16, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        maps = torch.relu(self.first(x))
        pooled = torch.einsum("nchw,ndhw->ncd", maps, maps) / maps[0, 0].numel()
        logits: Tensor = self.head(pooled.flatten(1))
        return logits


def net(num_classes: int = 10, in_channels: int = 1) -> nn.Module:
    """The net with weights of its own."""
    return Bilinear(num_classes, in_channels)
