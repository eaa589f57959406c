"""A moving average of the weights that tells the student what is in unlabelled images."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from adaptation.detectors import Detector
from adaptation.training.batches import DetectionBatch
from robustkit.compute import torch_generator
from robustkit.data.detection import Truth, truth


def make_teacher(model: Detector) -> Detector:
    """A copy that learns by following."""
    teacher = copy.deepcopy(model).eval()
    for parameter in teacher.parameters():
        parameter.requires_grad_(False)
    return teacher


@torch.no_grad()
def follow(teacher: Detector, model: Detector, ema: float) -> None:
    """Move the teacher's weights and statistics towards the model's."""
    for own, new in zip(teacher.state_dict().values(), model.state_dict().values(), strict=True):
        if own.is_floating_point():
            own.lerp_(new.to(own), 1 - ema)
        else:
            own.copy_(new)


@torch.no_grad()
def pseudo_truths(teacher: Detector, images: Sequence[Tensor], sure: float) -> list[Truth]:
    """What the teacher finds with a score above `sure`, as if it were true."""
    truths = []
    for found in teacher(images):
        kept = found.scores > sure
        sides = found.boxes[:, 2:] - found.boxes[:, :2]
        kept &= (sides > 1).all(dim=1)
        truths.append(truth(found.boxes[kept].cpu(), found.labels[kept].cpu()))
    return truths


def strongly_changed(batch: DetectionBatch, seed: int, step: int, first: int = 0) -> list[Tensor]:
    """The images with contrast, brightness, colour and noise that the student must see through.

    `first` is the place of the first of them in the whole batch, on whose places the draws depend.
    """
    changed = []
    for number, image in enumerate(batch.images, start=first):
        generator = torch_generator("strong", seed, step, number)
        gain, shift = torch.rand(2, generator=generator)
        colour = 1 + 0.3 * (torch.rand(3, 1, 1, generator=generator) - 0.5)
        noise = 0.03 * torch.randn(image.shape, generator=generator)
        grey = image.mean()
        moved = (image - grey) * (0.6 + 0.8 * gain.to(image)) + grey + 0.2 * (shift.to(image) - 0.5)
        changed.append((moved * colour.to(image) + noise.to(image)).clamp(0, 1))
    return changed
