"""Random resizing and padding of every image on its own, differentiable."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Random numbers that one image needs for one view: whether, how small, and where (down, across).
DRAWS = 4


def resized_and_padded(images: Tensor, drawn: Tensor, rate: float, probability: float) -> Tensor:
    """Images (N,C,H,W) shrunk and padded with zeros to their old size (Xie et al. 2019, section 3).

    Row i of `drawn` (N,4), uniform in [0,1), is image i's luck: with `probability` it is resized
    bilinearly to a side in [⌊rate·H⌋, H) and put anywhere inside. Each image has its own, so that
    what becomes of it does not depend on its batch.
    """
    height, width = images.shape[2:]
    # A float64 just below one may become a float32 one.
    chance, small, down, across = drawn.to(images).clamp(max=1 - 1e-7).unbind(dim=1)
    least = torch.tensor([int(rate * height), int(rate * width)], device=images.device)
    whole = torch.tensor([height, width], device=images.device)
    # One draw for both sides keeps the aspect ratio.
    sides = (least + small[:, None] * (whole - least)).floor().clamp(min=1)
    offsets = (torch.stack([down, across], dim=1) * (whole - sides + 1)).floor()
    sides = torch.where((chance < probability)[:, None], sides, whole.to(sides))
    offsets = torch.where((chance < probability)[:, None], offsets, torch.zeros_like(offsets))
    rows, row_inside = _sources(height, sides[:, 0], offsets[:, 0])
    columns, column_inside = _sources(width, sides[:, 1], offsets[:, 1])
    size = (len(images), height, width)
    grid = torch.stack([columns[:, None].expand(size), rows[:, :, None].expand(size)], dim=3)
    seen = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return seen * (row_inside[:, :, None] & column_inside[:, None, :])[:, None]


def _sources(length: int, side: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
    """Where each of `length` pixels of the view looks, in [-1,1] of the image; and whether at all.

    `side` and `offset` (N,) are those of the shrunk image; both results are (N, length).
    """
    within = torch.arange(length, device=side.device) - offset[:, None]
    # Pixel centres, as in bilinear resizing: (within + 1/2) of `side` is that of the whole.
    position = (within + 0.5) / side[:, None]
    return 2 * position - 1, (within >= 0) & (within < side[:, None])
