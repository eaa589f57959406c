"""Features that do not tell the domains apart: classifiers behind a gradient reversal.

Local and global alignment after Saito, Ushiku, Harada and Saenko 2019 (strong-weak alignment):
the local classifier looks at single places of the finest maps with least squares, the global one at
whole images of the coarsest with a focal loss, which leaves images alone that are plainly of one
domain.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptation.detectors import Detector
from adaptation.training.batches import DetectionBatch
from robustkit.compute import device_of, torch_generator
from robustkit.data import ImageSet, to_unit
from robustkit.data.detection import DetectionSet, Truth, truth
from robustkit.errors import ModelError
from robustkit.models import Classifier

GAMMA = 3.0  # of the focal loss
SOURCE, TARGET = 0.0, 1.0


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor) -> Tensor:
        return maps.view_as(maps)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        return -slope


def reversed_gradient(maps: Tensor) -> Tensor:
    """Return `maps`; gradients through them change their sign (Ganin and Lempitsky 2015)."""
    reversed_maps: Tensor = _Reverse.apply(maps)
    return reversed_maps


class DomainClassifiers(nn.Module):
    """A local and a global classifier for maps with so many channels."""

    def __init__(self, finest: int, coarsest: int, width: int = 64) -> None:
        super().__init__()
        self.local = nn.Sequential(
            nn.Conv2d(finest, width, 1), nn.ReLU(), nn.Conv2d(width, width, 1), nn.ReLU(),
            nn.Conv2d(width, 1, 1),
        )  # fmt: skip
        self.whole = nn.Sequential(
            nn.Conv2d(coarsest, width, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), nn.Linear(width, 1),
        )  # fmt: skip

    def losses(self, maps: Mapping[str, Tensor], domain: float) -> tuple[Tensor, Tensor]:
        """Return the local and the global loss of one domain's maps.

        Their gradients make the features of both domains alike and train the classifiers to tell
        them apart.
        """
        finest, coarsest = ends(maps)
        places = self.local(reversed_gradient(finest)).sigmoid()
        local = (places - domain).square().mean()
        logit = self.whole(reversed_gradient(coarsest))[:, 0]
        aim = torch.full_like(logit, domain)
        cross = F.binary_cross_entropy_with_logits(logit, aim, reduction="none")
        return local, ((1 - torch.exp(-cross)) ** GAMMA * cross).mean()


def ends(maps: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the finest and the coarsest maps of a backbone."""
    ordered = list(maps.values())
    return ordered[0], ordered[-1]


BATCH = 32
MOST = 1000  # images are more than enough for means and variances


def batch_norms(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Return the model's batch norms; raises `ModelError` where there are none to adapt."""
    norms = [
        module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)
    ]
    if not norms:
        raise ModelError(
            "adabn adapts batch norm, and this detector has none; a tiny one has with ?norm=batch"
        )
    return norms


def adapt_statistics(model: Detector, images: DetectionSet) -> None:
    """Replace a detector's batch norm statistics by those of the unlabelled `images`.

    Raises `ModelError` for a model without batch norm, which has nothing to adapt.
    """
    # Norms of the heads see boxes rather than images: they keep what they know.
    model.eval()
    with _plain_means(model.net.get_submodule("backbone")):
        for rows in _batches(len(images)):
            model.features([to_unit(images.image(row)).to(device_of(model)) for row in rows])


def adapt_classifier(model: Classifier, images: ImageSet) -> None:
    """Replace a classifier's batch norm statistics by those of `images`, in place."""
    model.eval()
    with _plain_means(model):
        for rows in _batches(len(images)):
            model(images.floats(torch.tensor(rows)).to(device_of(model)))


@contextmanager
def _plain_means(model: nn.Module) -> Iterator[None]:
    """Reset the batch norms, and let them take plain means over all batches inside the context."""
    norms = batch_norms(model)
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    try:
        with torch.no_grad():
            yield
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.eval()


def _batches(count: int) -> Iterator[list[int]]:
    """Yield rows by the batch; a last, smaller one, which would count as much, is left out."""
    count = min(count, MOST)
    for start in range(0, count - count % BATCH or count, BATCH):
        yield list(range(start, min(start + BATCH, count)))


def make_teacher(model: Detector) -> Detector:
    """Return a copy without gradients, for `follow` to move."""
    teacher = copy.deepcopy(model).eval()
    for parameter in teacher.parameters():
        parameter.requires_grad_(False)
    return teacher


@torch.no_grad()
def follow(teacher: Detector, model: Detector, ema: float) -> None:
    """Move the teacher's weights and statistics towards the model's."""
    for average, new in zip(
        teacher.state_dict().values(), model.state_dict().values(), strict=True
    ):
        if average.is_floating_point():
            average.lerp_(new.to(average), 1 - ema)
        else:
            average.copy_(new)


@torch.no_grad()
def pseudo_truths(teacher: Detector, images: Sequence[Tensor], sure: float) -> list[Truth]:
    """Return the teacher's detections with a score above `sure` as truths."""
    truths = []
    for detected in teacher(images):
        sure_boxes = detected.scores > sure
        sides = detected.boxes[:, 2:] - detected.boxes[:, :2]
        sure_boxes &= (sides > 1).all(dim=1)
        truths.append(truth(detected.boxes[sure_boxes].cpu(), detected.labels[sure_boxes].cpu()))
    return truths


def strongly_changed(batch: DetectionBatch, seed: int, step: int, first: int = 0) -> list[Tensor]:
    """Return the images with other contrast, brightness and colour, and with noise.

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
