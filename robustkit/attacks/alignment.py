"""How two models' input gradients lie to each other, and how long they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robustkit.attacks.gradients import loss_gradient
from robustkit.attacks.predict import BATCH, check_model
from robustkit.attacks.purity import pure
from robustkit.compute import Note, fitting_batches, on_device
from robustkit.compute.batching import warn
from robustkit.data import ImageSet, as_image_set

# Below any norm of float32 gradients that is not zero.
LEAST = 1e-48


@dataclass(frozen=True)
class GradientAlignment:
    """Per image (n,): `cosine` between the two gradients and the L2 `norm` of the first model's.

    The cosine is NaN where either gradient is exactly zero, and such rows are to be left out.
    """

    cosine: Tensor
    norm: Tensor


def input_gradients(
    model: nn.Module,
    images: Any,
    loss: str = "ce",
    *,
    batch_size: int | None = None,
    device: torch.device | None = None,
    on_note: Note = warn,
) -> Tensor:
    """∂L/∂x of every image, float32 (N,C,H,W) on the CPU; the model is left as it was.

    In batches of `batch_size`, by default 500 or as many as fit, with the model on `device`; a
    batch that does not fit is halved, of which `on_note` is told. Raises `ModelError` for a model
    that gives no logits, `DataError` where a label has no logit.
    """
    images = as_image_set(images)
    parts = gradient_batches(
        model, images, loss, batch_size=batch_size, device=device, on_note=on_note
    )
    return torch.cat([gradients for _, gradients in parts])


def gradient_batches(
    model: nn.Module,
    images: ImageSet,
    loss: str = "ce",
    *,
    most: int = BATCH,
    batch_size: int | None = None,
    device: torch.device | None = None,
    on_note: Note = warn,
) -> Iterator[tuple[slice, Tensor]]:
    """Yield slices of the images with their gradients (n,C,H,W), as `input_gradients` has them.

    Between two of them the model is on `device` and otherwise as it was.
    """
    with on_device(model, device) as place:
        check_model(model, images)
        with pure(model):
            batches = fitting_batches(
                model, images.shape, chosen=batch_size, most=most, backward=True, on_note=on_note
            )

        def gradients(part: slice) -> Tensor:
            chosen = torch.arange(part.start, part.stop)
            pixels, labels = images.floats(chosen).to(place), images.labels[chosen].to(place)
            with pure(model):
                return loss_gradient(model, pixels, labels, loss)[0].cpu()

        yield from batches.over(len(images), gradients)


def alignment(gradients: Tensor, others: Tensor) -> GradientAlignment:
    """Cosines of two stacks of gradients (N,C,H,W) row by row, in float64, and norms of the first.

    Float64, because norms of confident models' gradients underflow when squared in float32.
    """
    first, second = gradients.flatten(1).double(), others.flatten(1).double()
    norm, other = first.norm(dim=1), second.norm(dim=1)
    product = (first / norm.clamp_min(LEAST)[:, None] * second).sum(dim=1)
    cosine = torch.where((norm > 0) & (other > 0), product / other, torch.nan)
    return GradientAlignment(cosine, norm)


def unit_rows(gradients: Tensor) -> tuple[Tensor, Tensor]:
    """Directions float32 (N,D) of gradients (N,...) and their L2 norms float64 (N,).

    Float64 row by row, for the reason `alignment` has. A gradient that is zero stays so.
    """
    rows = gradients.flatten(1)
    unit, norm = torch.empty_like(rows), torch.empty(len(rows), dtype=torch.float64)
    for index, row in enumerate(rows):
        exact = row.double()
        norm[index] = exact.norm()
        unit[index] = exact / norm[index].clamp_min(LEAST)
    return unit, norm
