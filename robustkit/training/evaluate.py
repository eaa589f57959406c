"""How well a model does on a set of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.attacks import predict
from robustkit.data import as_image_set


@dataclass(frozen=True)
class Evaluation:
    """`accuracy` in [0,1], mean cross-entropy `loss` in nats, `n` images, `correct` bool (n,)."""

    accuracy: float
    loss: float
    n: int
    correct: Tensor


def evaluate(model: nn.Module, images: Any) -> Evaluation:
    """Accuracy and loss of `model` on `images`, whatever `data.as_image_set` takes; the model is
    left as it was."""
    images = as_image_set(images)
    logits = predict(model, images.images)
    correct = logits.argmax(dim=1) == images.labels
    loss = F.cross_entropy(logits.double(), images.labels).item()
    return Evaluation(float(correct.double().mean()), loss, len(images), correct)
