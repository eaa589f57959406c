"""A teacher, the moving average of the weights, whose boxes in target images the student learns.

After Adaptive Teacher (Li et al. 2022): the teacher sees images as they are drawn, the student the
same ones strongly changed, and learns what the boxes are, not where. The score that counts is of
each class its own, by how often the labelled images have it (LabelMatch, Chen et al. 2022).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from adaptation.detectors import Detections, Detector
from adaptation.training.batches import DetectionBatch
from robustkit.compute import derive_seed, isolated_rng
from robustkit.data.detection import DetectionSet, Truth, truth

REMEMBERED = 256  # target images, by whose detections thresholds go
LOWEST = 0.5  # threshold of a class, as a share of that of a common one


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


def objects_per_image(images: DetectionSet) -> Tensor:
    """Return how many objects of each class an image has in the mean, float32 (K,)."""
    counts = torch.zeros(len(images.classes))
    for each in images.truths:
        counts += torch.bincount(each.trained_on().labels, minlength=len(counts))
    return counts / len(images)


class Thresholds:
    """The score above which the teacher's boxes count, class by class.

    As many boxes of a class as so many labelled images have, in the last target images, lie above
    its threshold, but for thresholds above `sure` and below half of it, which there are none.
    `seen` float32 (n,3) has the image's number, label and score of each detection remembered.
    """

    def __init__(self, sure: float, frequencies: Tensor) -> None:
        self.sure, self.frequencies = sure, frequencies
        self.images = 0
        self.seen = torch.zeros(0, 3)

    def remember(self, found: Sequence[Tensor]) -> None:
        """Take in the labels and scores (n,2) found in each of the next images."""
        rows = [self.seen]
        for each in found:
            number = torch.full((len(each), 1), float(self.images))
            rows.append(torch.cat([number, each], dim=1))
            self.images += 1
        seen = torch.cat(rows)
        self.seen = seen[seen[:, 0] >= self.images - REMEMBERED]

    def by_class(self) -> Tensor:
        """Return the thresholds (K,)."""
        thresholds = torch.full_like(self.frequencies, self.sure)
        images = min(self.images, REMEMBERED)
        for label, frequency in enumerate(self.frequencies.tolist()):
            scores = self.seen[self.seen[:, 1] == label, 2].sort(descending=True).values
            expected = round(frequency * images)
            if images and expected:
                score = float(scores[expected - 1]) if expected <= len(scores) else 0.0
                thresholds[label] = min(max(score, LOWEST * self.sure), self.sure)
        return thresholds


@torch.no_grad()
def found_by(teacher: Detector, images: Sequence[Tensor]) -> list[Detections]:
    """Return the teacher's detections, on the CPU."""
    return [
        Detections(each.boxes.cpu(), each.scores.cpu(), each.labels.cpu())
        for each in teacher(images)
    ]


def labels_and_scores(found: Sequence[Detections]) -> list[Tensor]:
    """Return what `Thresholds` remembers of the detections in each image."""
    return [torch.stack([each.labels.float(), each.scores], dim=1) for each in found]


def pseudo_truths(found: Sequence[Detections], thresholds: Tensor) -> list[Truth]:
    """Return the detections above the threshold of their class (K,) as truths."""
    truths = []
    for each in found:
        sides = each.boxes[:, 2:] - each.boxes[:, :2]
        sure = (each.scores > thresholds[each.labels]) & (sides > 1).all(dim=1)
        truths.append(truth(each.boxes[sure], each.labels[sure]))
    return truths


def strongly_changed(batch: DetectionBatch, seed: int, step: int, first: int = 0) -> list[Tensor]:
    """Return the images with other colours, at times grey, blurred or partly erased.

    As in Unbiased Teacher (Liu et al. 2021). `first` is the place of the first of them in the whole
    batch, on whose places the draws depend.
    """
    change = _strong()
    changed = []
    for number, image in enumerate(batch.images, start=first):
        with isolated_rng(derive_seed("strong", seed, step, number)):
            changed.append(change(image).clamp(0, 1))
    return changed


def _strong() -> nn.Module:
    erasing = [
        v2.RandomErasing(p=p, scale=scale, ratio=ratio, value="random")
        for p, scale, ratio in (
            (0.7, (0.05, 0.2), (0.3, 3.3)),
            (0.5, (0.02, 0.2), (0.1, 6.0)),
            (0.3, (0.02, 0.2), (0.05, 8.0)),
        )
    ]
    strong: nn.Module = v2.Compose(
        [
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
            v2.RandomGrayscale(p=0.2),
            v2.RandomApply([v2.GaussianBlur(9, (0.1, 2.0))], p=0.5),
            *erasing,
        ]
    )
    return strong
