"""The images of each training step, a function of the seed and the step's number alone.

So a training goes on in the middle of an epoch without any state of a generator, and whoever
loads the images, this process or others, loads the same.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from robustkit.compute import derive_seed, isolated_rng, torch_generator
from robustkit.data import to_unit
from robustkit.data.detection import DetectionSet, Truth

MEAN_COLOUR = (123.0, 117.0, 104.0)  # around pictures zoomed out of, ImageNet's
FLIP = "flip"
# As SSD is trained (Liu et al. 2016), by torchvision; in this order, mirrored last.
CHANGES: dict[str, Callable[[], nn.Module]] = {
    "photometric": v2.RandomPhotometricDistort,
    "zoom_out": lambda: v2.RandomZoomOut(fill=MEAN_COLOUR),
    "iou_crop": v2.RandomIoUCrop,
}
AUGMENTATIONS = (FLIP, *CHANGES)


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


@dataclass(frozen=True, eq=False)
class Drawing(Dataset[DetectionBatch]):
    """Batches of `size` images by number, shuffled and augmented with draws of `seed`.

    `augment` are names of `AUGMENTATIONS`; `domain` tells two sets of one seed apart.
    """

    images: DetectionSet
    size: int
    seed: int
    augment: Sequence[str] = ()
    domain: str = "source"

    def __getitem__(self, number: int) -> DetectionBatch:
        return self.batch(number)

    def batch(self, number: int) -> DetectionBatch:
        """Return batch `number`, counted from 0; every epoch shuffles all images anew.

        The last images of an epoch that fill no batch are left to the next one's chance. A set of
        fewer images than a batch is gone round.
        """
        size, domain, seed = self.size, self.domain, self.seed
        per_epoch = max(1, len(self.images) // size)
        epoch, place = divmod(number, per_epoch)
        shuffled = torch_generator("order", domain, seed, epoch)
        order = torch.randperm(len(self.images), generator=shuffled)
        rows = [int(order[(place * size + row) % len(order)]) for row in range(size)]
        drawn = torch.rand(size, generator=torch_generator("flip", domain, seed, number))
        pixels, truths = [], []
        for row, (index, chance) in enumerate(zip(rows, drawn.tolist(), strict=True)):
            draws = derive_seed("augment", domain, seed, number, row)
            image, truth = self._changed(self.images.image(index), self.images.truths[index], draws)
            image = to_unit(image)
            if FLIP in self.augment and chance < 0.5:
                image, truth = image.flip(-1), mirrored(truth, image.shape[-1])
            pixels.append(image)
            truths.append(truth)
        return DetectionBatch(pixels, truths, [self.images.ids[index] for index in rows])

    def stream(self, numbers: Iterable[int], workers: int = 0) -> Iterator[DetectionBatch]:
        """Yield the batches of these numbers, loaded ahead by so many processes."""
        if not workers:
            yield from map(self.batch, numbers)
            return
        loader: DataLoader[DetectionBatch] = DataLoader(
            self,
            batch_size=None,
            sampler=numbers,
            num_workers=workers,
            multiprocessing_context="fork",  # a set reads by closures
            generator=torch.Generator(),  # else it draws from the global one
        )
        with _children_allowed():
            batches = iter(loader)
        yield from batches

    def _changed(self, image: Tensor, truth: Truth, seed: int) -> tuple[Tensor, Truth]:
        """Return an image, uint8 (3,H,W), and its objects as far as they are still seen."""
        chosen = [make() for name, make in CHANGES.items() if name in self.augment]
        if not chosen:
            return image, truth
        height, width = image.shape[-2:]
        sample = {
            "image": tv_tensors.Image(image),
            "boxes": tv_tensors.BoundingBoxes(
                truth.boxes, format="XYXY", canvas_size=(height, width)
            ),
            "labels": torch.arange(len(truth)),
        }
        with isolated_rng(seed):
            for change in (*chosen, v2.SanitizeBoundingBoxes()):
                # A crop looks for one that holds an object, for ever where there is none.
                if len(sample["labels"]) or not isinstance(change, v2.RandomIoUCrop):
                    sample = change(sample)
        boxes = sample["boxes"].as_subclass(Tensor)
        seen = replace(truth.chosen(sample["labels"]), boxes=boxes)
        area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
        return sample["image"].as_subclass(Tensor), replace(seen, area=area)


@contextmanager
def _children_allowed() -> Iterator[None]:
    """Let this process start others, though it is one that an executor started.

    Those are daemons, which may have no children, lest these outlive them; the loader's end by
    themselves when their parent does.
    """
    config = multiprocessing.current_process().__dict__["_config"]
    was_daemon = config.get("daemon")
    config["daemon"] = False
    try:
        yield
    finally:
        config["daemon"] = was_daemon


def mirrored(truth: Truth, width: int) -> Truth:
    """Return the boxes after an image of this width is flipped left to right."""
    x1, y1, x2, y2 = truth.boxes.unbind(dim=1)
    return replace(truth, boxes=torch.stack([width - x2, y1, width - x1, y2], dim=1))
