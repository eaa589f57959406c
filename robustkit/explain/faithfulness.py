"""Is a map any good? Delete or insert the pixels it points at, in its order."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.attacks import predict
from robustkit.compute import torch_generator
from robustkit.errors import ExplainError


@dataclass(frozen=True, eq=False)
class Curve:
    """The target's probability (N,S+1) after each of S steps; `area` (N,) under it, in [0,1].

    Deletion: the lower the better. Insertion: the higher the better.
    """

    probability: Tensor

    @property
    def area(self) -> Tensor:
        """By the trapezoid rule over the share of pixels changed."""
        p = self.probability
        return (p[:, 1:] + p[:, :-1]).sum(dim=1) / (2 * (p.shape[1] - 1))


def deletion(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    steps: int = 20,
    baseline: Tensor | float = 0.0,
) -> Curve:
    """Replace pixels of images (N,C,H,W) by `baseline`, those of largest map (N,H,W) first.

    Petsiuk et al. 2018. Ties go by position. Raises `ExplainError` for maps of another size.
    """
    return _curve(model, images, targets, maps, steps, images, _filled(images, baseline))


def insertion(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    steps: int = 20,
    blur: int = 11,
) -> Curve:
    """Put pixels of images (N,C,H,W) into blurred ones, those of largest map (N,H,W) first.

    Petsiuk et al. 2018; blurred by a box of `blur` pixels. Raises as `deletion` does.
    """
    return _curve(model, images, targets, maps, steps, blurred(images, blur), images)


def random_maps(images: Tensor, seed: int = 0) -> Tensor:
    """The control that knows nothing: uniform maps (N,H,W)."""
    shape = (len(images), *images.shape[2:])
    return torch.rand(shape, generator=torch_generator("random maps", seed))


def edges(images: Tensor) -> Tensor:
    """The control that knows the image and not the model: Sobel magnitudes (N,H,W) of its grey."""
    grey = images.mean(dim=1, keepdim=True)
    across = grey.new_tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])[None, None]
    padded = F.pad(grey, (1, 1, 1, 1), mode="replicate")
    return torch.hypot(F.conv2d(padded, across), F.conv2d(padded, across.transpose(2, 3)))[:, 0]


def blurred(images: Tensor, size: int) -> Tensor:
    """Images averaged over squares of `size` pixels, borders repeated."""
    before = (size - 1) // 2
    padded = F.pad(images, (before, size - 1 - before) * 2, mode="replicate")
    return F.avg_pool2d(padded, size, stride=1)


def _filled(images: Tensor, baseline: Tensor | float) -> Tensor:
    return torch.as_tensor(baseline, dtype=images.dtype, device=images.device).expand_as(images)


def _curve(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    steps: int,
    start: Tensor,
    end: Tensor,
) -> Curve:
    """From `start` to `end`, pixel by pixel in the order of `maps`, in `steps` equal parts."""
    if maps.shape != (len(images), *images.shape[2:]):
        raise ExplainError(
            f"maps {tuple(maps.shape)} for images {tuple(images.shape)}: one value for each pixel"
        )
    flat = maps.flatten(1)
    if not 1 <= steps <= flat.shape[1]:
        raise ExplainError(f"steps must be from 1 to {flat.shape[1]} pixels, not {steps}")
    order = torch.sort(flat, dim=1, descending=True, stable=True).indices
    rank = torch.empty_like(order).scatter_(
        1, order, torch.arange(flat.shape[1], device=flat.device).expand_as(order)
    )
    rank = rank.view(maps.shape)[:, None].to(images.device)
    columns = []
    for step in range(steps + 1):
        shown = torch.where(rank < step * flat.shape[1] / steps, end, start)
        said = predict(model, shown).softmax(dim=1)
        columns.append(said.gather(1, targets[:, None].to(said.device))[:, 0])
    return Curve(torch.stack(columns, dim=1))
