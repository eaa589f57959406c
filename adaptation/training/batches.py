"""The images of each training step, a function of the seed and the step's number alone.

So a training goes on in the middle of an epoch without any state of a generator.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robustkit.compute import torch_generator
from robustkit.data import to_unit
from robustkit.data.detection import DetectionSet, Truth


@dataclass(frozen=True, eq=False)
class DetectionBatch:
    """`images` float (3,H,W) in [0,1], what is in them, and their names in the set."""

    images: list[Tensor]
    truths: list[Truth]
    ids: list[str]

    def part(self, number: int, parts: int) -> DetectionBatch:
        """Return part `number` of `parts` equal ones."""
        size = len(self.ids) // parts
        rows = slice(number * size, (number + 1) * size)
        return DetectionBatch(self.images[rows], self.truths[rows], self.ids[rows])

    def to(self, device: torch.device) -> DetectionBatch:
        """Return the batch with its images on `device`."""
        return replace(self, images=[image.to(device) for image in self.images])


def draw_batch(
    images: DetectionSet, step: int, size: int, seed: int, *, flip: bool, domain: str = "source"
) -> DetectionBatch:
    """Return batch number `step`, counted from 0; every epoch shuffles all images anew.

    The last images of an epoch that fill no batch are left to the next one's chance. A set of fewer
    images than a batch is gone round.
    """
    per_epoch = max(1, len(images) // size)
    epoch, batch = divmod(step, per_epoch)
    order = torch.randperm(len(images), generator=torch_generator("order", domain, seed, epoch))
    rows = [int(order[(batch * size + row) % len(order)]) for row in range(size)]
    drawn = torch.rand(size, generator=torch_generator("flip", domain, seed, step))
    pixels, truths = [], []
    for row, chance in zip(rows, drawn.tolist(), strict=True):
        image, truth = to_unit(images.image(row)), images.truths[row]
        if flip and chance < 0.5:
            image, truth = image.flip(-1), mirrored(truth, image.shape[-1])
        pixels.append(image)
        truths.append(truth)
    return DetectionBatch(pixels, truths, [images.ids[row] for row in rows])


def mirrored(truth: Truth, width: int) -> Truth:
    """Return the boxes after an image of this width is flipped left to right."""
    x1, y1, x2, y2 = truth.boxes.unbind(dim=1)
    return replace(truth, boxes=torch.stack([width - x2, y1, width - x1, y2], dim=1))
