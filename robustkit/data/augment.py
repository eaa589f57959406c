"""Random crops and mirrors: drawn anew for every batch, or fixed once as stored views."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from robustkit.compute.seeds import torch_generator
from robustkit.data.arrays import Pixels, map_array, write_array
from robustkit.data.imageset import chunks
from robustkit.errors import ConfigError, DataError

AUGMENTATIONS = ("none", "flip", "crop", "crop_flip")


def crop_flip(images: Tensor, *, pad: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Shift every image at random by up to `pad` pixels each way, and mirror half of them.

    `images` (N,C,H,W) of any dtype and device; the result has the same. What a shift uncovers is
    zero. `flip=False` mirrors none. The whole batch is done at once.
    """
    device = generator.device
    count = len(images)
    shifts = torch.randint(2 * pad + 1, (count, 2), generator=generator, device=device)
    mirrored = (
        torch.rand(count, generator=generator, device=device) < 0.5
        if flip
        else torch.zeros(count, dtype=torch.bool, device=device)
    )
    return _shift_and_mirror(images, pad, shifts.to(images.device), mirrored.to(images.device))


def _shift_and_mirror(images: Tensor, pad: int, shifts: Tensor, mirrored: Tensor) -> Tensor:
    """Cut the window at `shifts` (N,2) in 0..2·pad out of each padded image; mirror some (N,)."""
    if pad:
        height, width = images.shape[-2:]
        windows = F.pad(images, (pad, pad, pad, pad)).unfold(2, height, 1).unfold(3, width, 1)
        rows, columns = shifts.unbind(1)
        images = windows[torch.arange(len(images), device=images.device), :, rows, columns]
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)


def fixed_views(
    images: Tensor, count: int, augment: str, seed: int, out: Path | None = None
) -> Tensor:
    """Return `count` views of every image, uint8 (K,N,C,H,W); view 0 is the image itself.

    Fixed views let gradients of a reference be computed once per view and reused every epoch.
    `images` uint8 (N,C,H,W). `augment` is one of AUGMENTATIONS: "flip" mirrors view 1; "crop"
    shifts by up to an eighth of the height, filling with zeros; "crop_flip" also mirrors by the
    toss of a coin. With `out`, the views are written there as a .npy file and mapped read-only.

    Raises ConfigError for an unknown `augment` or more views than it can make differ, DataError
    if there are no images or they are not uint8 (N,C,H,W).
    """
    check_views(count, augment)
    _check_images(images)
    shape = (count, *images.shape)
    if out is None:
        views = np.empty(shape, dtype=np.uint8)
        _fill(views, images, augment, seed)
        return torch.from_numpy(views)
    write_array(out, shape, lambda views: _fill(views, images, augment, seed))
    return map_array(out)


def check_views(count: int, augment: str) -> None:
    """Raise `ConfigError` for an unknown `augment` or more views than it can make differ."""
    if augment not in AUGMENTATIONS:
        raise ConfigError(f"unknown augmentation '{augment}'; known: {', '.join(AUGMENTATIONS)}")
    most = {"none": 1, "flip": 2}.get(augment, count)
    if not 1 <= count <= most:
        limit = {"none": "1 view", "flip": "1 or 2 views"}.get(augment, "at least 1 view")
        raise ConfigError(f"augmentation '{augment}' makes {limit}, not {count}")


def _check_images(images: Tensor) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or images.numel() == 0:
        raise DataError(
            f"views need images, uint8 (N,C,H,W), not {images.dtype} {tuple(images.shape)}"
        )


def _fill(views: Pixels, images: Tensor, augment: str, seed: int) -> None:
    pad = max(1, images.shape[-2] // 8) if augment.startswith("crop") else 0
    total = len(images)
    for view in range(len(views)):
        generator = torch_generator("views", seed, view)
        shifts = torch.randint(2 * pad + 1, (total, 2), generator=generator)
        coins = torch.rand(total, generator=generator) < 0.5
        mirrored = {"flip": torch.ones_like(coins), "crop_flip": coins}.get(
            augment, torch.zeros_like(coins)
        )
        for rows in chunks(images):
            batch = images[rows]
            if view > 0:
                batch = _shift_and_mirror(batch, pad, shifts[rows], mirrored[rows])
            views[view, rows] = batch.cpu().numpy()
