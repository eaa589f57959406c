"""The one kind of model that every part of the laboratory works on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robustkit.errors import ModelError
from robustkit.models.card import Card


class Normalise(nn.Module):
    """(x - mean) / std per channel, for images (N,C,H,W) in [0,1].

    The statistics are kept on the model card, not among the weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", _column(mean), persistent=False)
        self.register_buffer("std", _column(std), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images of the same shape."""
        return (x - self.mean) / self.std


class Classifier(nn.Module):
    """A network from images in [0,1] to logits that normalises its input and knows its card."""

    def __init__(self, net: nn.Module, card: Card) -> None:
        super().__init__()
        self.card = card
        self.normalise = Normalise(card.mean, card.std)
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N,K) of float images `x` (N,C,S,S) in [0,1].

        Raises `ModelError` for a tensor of another shape or an integer one. The range is not
        looked at: that would cost a pass over every batch.
        """
        if x.dim() != 4 or x.shape[1:] != self.card.input_shape or not x.is_floating_point():
            wanted = ", ".join(str(size) for size in self.card.input_shape)
            raise ModelError(
                f"model: images must be float (N, {wanted}) in [0,1], "
                f"not {str(x.dtype).removeprefix('torch.')} {tuple(x.shape)}"
            )
        logits: Tensor = self.net(self.normalise(x))
        return logits


def _column(values: Sequence[float]) -> Tensor:
    """float32 (C,1,1); cards may tell whole numbers."""
    return torch.tensor([float(value) for value in values]).view(-1, 1, 1)
