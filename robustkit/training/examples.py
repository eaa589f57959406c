"""The images a training draws from: views, labels, and gradients of references beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robustkit.compute import FreeMemory, fill_device, free_memory, to_device
from robustkit.data import ImageSet, crop_flip, fixed_views, to_unit
from robustkit.errors import ConfigError, DataError
from robustkit.training.config import TrainConfig
from robustkit.training.misalignment import MIN_NORM
from robustkit.training.penalty_views import noisy_views
from robustkit.training.references import ReferenceGradients

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Batch:
    """`images` float32 (N,C,H,W) in [0,1], `labels` (N,), `directions` (J,N,C,H,W), `usable` (J,N).

    J is the number of references, 0 without a penalty.
    """

    images: Tensor
    labels: Tensor
    directions: Tensor | None
    usable: Tensor | None


@dataclass(frozen=True, eq=False)
class Examples:
    """Training images as stored views uint8 (K,N,C,H,W), `labels` int64 (N,), and references.

    With no references, `augment` other than "none" is drawn anew for each batch. Batches are made
    on the `device`, wherever what they are taken from lies.
    """

    views: Tensor
    labels: Tensor
    references: tuple[ReferenceGradients, ...] = ()
    augment: str = "none"
    device: torch.device = CPU

    def __post_init__(self) -> None:
        for reference in self.references:
            if reference.directions.shape != self.views.shape:
                raise DataError(
                    f"a reference's gradients have shape {tuple(reference.directions.shape)}, "
                    f"the views {tuple(self.views.shape)}; compute them on these views"
                )
        if self.references and self.augment != "none":
            raise ConfigError("the misalignment penalty needs fixed views: set views above 0")

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Tensor) -> Examples:
        """Return the examples at `indices`, copied into memory."""
        return replace(
            self,
            views=self.views[:, indices],
            labels=self.labels[indices],
            references=tuple(reference.subset(indices) for reference in self.references),
        )

    def to(self, device: torch.device, free: FreeMemory = free_memory) -> Examples:
        """Return these examples for a training on `device`.

        Views and gradients are moved there once where they fit (see `fill_device`); what does not
        stays where it is, which for a mapped file is the disk, and its batches are handed over.
        """
        if device.type == "cpu":
            return self
        stored = [self.views, *(reference.directions for reference in self.references)]
        views, *directions = fill_device(stored, device, free)
        references = tuple(
            ReferenceGradients(moved, reference.norms.to(device))
            for moved, reference in zip(directions, self.references, strict=True)
        )
        return Examples(views, self.labels.to(device), references, self.augment, device)

    def draw_views(self, generator: torch.Generator) -> Tensor:
        """Return one view of each image for an epoch, (N,)."""
        return torch.randint(len(self.views), (len(self),), generator=generator)

    def batch(
        self,
        indices: Tensor,
        view: Tensor,
        generator: torch.Generator,
        *,
        penalised: bool = True,
    ) -> Batch:
        """Return the images at `indices` (n,), each in its `view` (n,).

        Unless `penalised` the references' gradients stay where they are.
        """
        pixels = self._rows(self.views, view, indices)
        if self.augment != "none":
            pad = max(1, pixels.shape[-1] // 8) if "crop" in self.augment else 0
            pixels = crop_flip(pixels, pad=pad, flip="flip" in self.augment, generator=generator)
        directions = usable = None
        if self.references and penalised:
            taken = [
                self._rows(reference.directions, view, indices) for reference in self.references
            ]
            norms = [self._rows(reference.norms, view, indices) for reference in self.references]
            directions, usable = torch.stack(taken), torch.stack(norms) > MIN_NORM
        return Batch(to_unit(pixels), self.labels[indices.to(self.device)], directions, usable)

    def _rows(self, stored: Tensor, view: Tensor, indices: Tensor) -> Tensor:
        """Return the rows at `view` and `indices` (n,) of values (K,N,…), on the device."""
        there = stored.device
        return to_device(stored[view.to(there), indices.to(there)], self.device)


def make_examples(
    images: ImageSet, config: TrainConfig, references: Sequence[ReferenceGradients] = ()
) -> Examples:
    """Return the examples that `config` asks for: stored views if it sets any, else one view.

    The references' gradients are on those views.
    """
    pixels = images.levels("training")
    noisy = config.penalty_views != "clean"
    if config.views or noisy:
        views = fixed_views(pixels, config.views or 1, config.augment, config.seed)
        if noisy:
            views = noisy_views(views, config.penalty_views, eps=config.eps, seed=config.seed)
        return Examples(views, images.labels, tuple(references))
    return Examples(pixels[None], images.labels, tuple(references), config.augment)
