"""Augmented batches from one tensor against a DataLoader with two worker processes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from experiments.benchmarks.record import Record, speedup
from experiments.benchmarks.timing import timed
from robustkit.data import batches, crop_flip, to_unit

COUNT, BATCH, PAD = 10_000, 100, 4


class _Images(Dataset[Tensor]):
    """The same images one by one with the usual transforms, as a DataLoader wants them."""

    def __init__(self, images: Tensor) -> None:
        self._images = images
        self._transform = v2.Compose(
            [
                v2.RandomCrop(images.shape[-1], padding=PAD),
                v2.RandomHorizontalFlip(),
                v2.ToDtype(torch.float32, scale=True),
            ]
        )

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Tensor:
        made: Tensor = self._transform(self._images[index])
        return made


def records() -> Iterator[Record]:
    """An epoch of cropped, mirrored float batches of 3x32x32 images, both ways."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (COUNT, 3, 32, 32), generator=generator, dtype=torch.uint8)
    loader = DataLoader(
        _Images(images), BATCH, shuffle=True, num_workers=2, persistent_workers=True
    )

    def ours() -> None:
        for indices in batches(COUNT, BATCH, generator=generator):
            to_unit(crop_flip(images[indices], pad=PAD, flip=True, generator=generator))

    def theirs() -> None:
        for _ in loader:
            pass

    mine, other = timed({"from memory": ours, "DataLoader": theirs}, rounds=5)
    yield speedup(
        f"an epoch of {COUNT:,} images, cropped and mirrored: DataLoader with 2 workers",
        mine,
        other,
        at_least=4.0,
        note=f"{COUNT / mine.median:,.0f} and {COUNT / other.median:,.0f} images/s",
    )
