"""The images a training draws from: views, labels, and gradients of references beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robustkit.data import ImageSet, crop_flip, fixed_views, to_unit
from robustkit.errors import ConfigError, DataError
from robustkit.training.config import TrainConfig
from robustkit.training.references import ReferenceGradients


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

    With no references, `augment` other than "none" is drawn anew for each batch.
    """

    views: Tensor
    labels: Tensor
    references: tuple[ReferenceGradients, ...] = ()
    augment: str = "none"

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
        """The examples at `indices`, copied into memory."""
        return Examples(
            self.views[:, indices],
            self.labels[indices],
            tuple(reference.subset(indices) for reference in self.references),
            self.augment,
        )

    def to(self, device: torch.device) -> Examples:
        """These examples on `device`; a small set is moved once rather than batch by batch."""
        if device.type == "cpu":
            return self
        return Examples(
            self.views.to(device),
            self.labels.to(device),
            tuple(
                ReferenceGradients(each.directions.to(device), each.norms.to(device))
                for each in self.references
            ),
            self.augment,
        )

    def draw_views(self, generator: torch.Generator) -> Tensor:
        """One view of each image for an epoch, (N,)."""
        return torch.randint(len(self.views), (len(self),), generator=generator)

    def batch(self, indices: Tensor, view: Tensor, generator: torch.Generator) -> Batch:
        """The images at `indices` (n,), each in its `view` (n,)."""
        home = self.views.device
        indices, view = indices.to(home), view.to(home)
        pixels = self.views[view, indices]
        if self.augment != "none":
            pad = max(1, pixels.shape[-1] // 8) if "crop" in self.augment else 0
            pixels = crop_flip(pixels, pad=pad, flip="flip" in self.augment, generator=generator)
        directions = usable = None
        if self.references:
            directions = torch.stack([each.directions[view, indices] for each in self.references])
            usable = torch.stack([each.usable[view, indices] for each in self.references])
        return Batch(to_unit(pixels), self.labels[indices], directions, usable)


def make_examples(
    images: ImageSet, config: TrainConfig, references: Sequence[ReferenceGradients] = ()
) -> Examples:
    """The examples that `config` asks for: stored views if `views` is set, else one view."""
    if config.views:
        views = fixed_views(images.images, config.views, config.augment, config.seed)
        return Examples(views, images.labels, tuple(references))
    return Examples(images.images[None], images.labels, tuple(references), config.augment)
