"""Adversarials as pictures store them: in whole levels of 256, still inside the ε-ball."""

from __future__ import annotations

import torch
from torch import Tensor

from robustkit.attacks.base import TOLERANCE, Attack
from robustkit.data import ImageSet
from robustkit.errors import AttackError

LEVELS = 255
_ROWS = 16  # images at once, in float64 on the CPU


def to_levels(images: Tensor) -> Tensor:
    """Float images (N,C,H,W) in [0,1] as uint8, rounded to the nearest level, not cut off.

    Images that are uint8 already stay as they are.

    >>> to_levels(torch.tensor([0.0, 0.499 / 255, 0.501 / 255, 1.0]))
    tensor([  0,   0,   1, 255], dtype=torch.uint8)
    """
    if images.dtype == torch.uint8:
        return images
    return (images * LEVELS).round().clamp(0, LEVELS).to(torch.uint8)


def check_levels(images: ImageSet) -> None:
    """Raise `AttackError` unless the clean images are on the grid of 256 levels, that is uint8."""
    if images.images.dtype != torch.uint8:
        kind = str(images.images.dtype).removeprefix("torch.")
        raise AttackError(
            f"round: these images are {kind}, whose pixels are not whole levels of 256: "
            "give uint8 images, or do not round"
        )


def rounded(adversarials: Tensor, images: Tensor, attack: Attack) -> Tensor:
    """Round `adversarials` float (N,C,H,W) in [0,1] of uint8 `images` to levels, inside the ball.

    Each pixel goes to its nearest level. Where that would leave the ε-ball it goes to the level on
    the side of the clean image instead: in linf where the pixel itself is too far, in l2 as many
    pixels as need be, those whose two levels are most nearly as near first.
    """
    return torch.cat(
        [
            _rounded(adversarials[part], images[part], attack)
            for part in (slice(start, start + _ROWS) for start in range(0, len(images), _ROWS))
        ]
    )


def _rounded(adversarials: Tensor, images: Tensor, attack: Attack) -> Tensor:
    distance = adversarials.double() * LEVELS - images
    # A hair of the ball's tolerance: 8/255 is eight levels, whatever float32 makes of it.
    limit = attack.eps * LEVELS + TOLERANCE * LEVELS
    if attack.norm == "linf":
        moved = distance.round().clamp(-int(limit), int(limit))
    else:
        moved = _within_l2(distance.flatten(1), limit).view_as(distance)
    return (images + moved).to(torch.uint8)


def _within_l2(distance: Tensor, limit: float) -> Tensor:
    """Whole numbers (N,D) near `distance` float64 (N,D), each row's l2 norm at most `limit`."""
    size = distance.abs()
    nearest = size.round()
    excess = nearest.square().sum(dim=1) - limit**2
    up = nearest > size
    # One level less takes 2k-1 from the sum of squares of a pixel that is k levels away.
    gain = torch.where(up, 2 * nearest - 1, 0.0)
    order = torch.where(up, size - size.floor(), torch.inf).argsort(dim=1, stable=True)
    before = gain.gather(1, order).cumsum(dim=1) - gain.gather(1, order)
    lowered = torch.zeros_like(up).scatter(1, order, before < excess[:, None]) & up
    return (nearest - lowered.double()) * distance.sign()
