"""Stored views of training images inside the ball in which attacks move.

A penalty on the gradients at the images themselves saturates: cosines near zero there still leave
transfer high, since adversarials lie `eps` away (methods §1). Views with noise in them ask for
misalignment where adversarials are. They are no adversarials: the noise knows no network.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robustkit.compute.seeds import torch_generator
from robustkit.data import map_array, write_array
from robustkit.data.imageset import chunks
from robustkit.errors import ConfigError
from robustkit.settings import check_choice

NOISES: dict[str, tuple[str, ...]] = {
    "clean": ("clean",),
    "uniform": ("uniform", "uniform"),
    "corner": ("corner", "corner"),
    "mixed": ("clean", "uniform", "corner"),
}
"""By name, the noises in which each view without noise is stored."""


def check_penalty_views(kind: str, eps: float) -> None:
    """Raise `ConfigError` for an unknown `kind`, or noise with an `eps` below one level."""
    check_choice("penalty_views", kind, tuple(NOISES))
    if kind != "clean" and _levels(eps) < 1:
        raise ConfigError(f"penalty_views {kind}: eps must be at least 1/255, not {eps:g}")


def noisy_views(
    views: Tensor, kind: str, *, eps: float, seed: int, out: Path | None = None
) -> Tensor:
    """Return `views` uint8 (K,N,C,H,W) in each noise of `kind`, uint8 (L·K,N,C,H,W), L = 1, 2 or 3.

    All K views in the first noise come first. "uniform" noise is drawn from the l-infinity ball of
    radius `eps` (in [0,1] units), twice; "corner" noise is `eps` or -`eps` in every entry, twice;
    "mixed" is the views as they are, with uniform and with corner noise; "clean" changes nothing.
    Levels are whole and stay in 0..255. With `out`, the result is written there as a .npy file and
    mapped read-only. Raises `ConfigError` for an unknown kind or an `eps` below one level.
    """
    check_penalty_views(kind, eps)
    shape = (len(NOISES[kind]) * len(views), *views.shape[1:])
    if out is None:
        noisy = np.empty(shape, dtype=np.uint8)
        _fill(noisy, views, kind, eps, seed)
        return torch.from_numpy(noisy)
    write_array(out, shape, lambda noisy: _fill(noisy, views, kind, eps, seed))
    return map_array(out)


def penalty_views(images: Tensor, kind: str, *, eps: float, seed: int) -> Tensor:
    """Return `noisy_views` of `images` uint8 (N,C,H,W) and their mirror images."""
    return noisy_views(torch.stack([images, images.flip(-1)]), kind, eps=eps, seed=seed)


def _fill(
    noisy: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
    views: Tensor,
    kind: str,
    eps: float,
    seed: int,
) -> None:
    generator = torch_generator("penalty views", kind, seed)
    for place, (noise, view) in enumerate(_pairs(kind, views)):
        for part in chunks(view):  # drawn from one stream: in parts the noise is the same
            noisy[place, part] = _in_noise(view[part], noise, _levels(eps), generator).numpy()


def _pairs(kind: str, views: Tensor) -> Iterator[tuple[str, Tensor]]:
    for noise in NOISES[kind]:
        for view in views:
            yield noise, view


def _levels(eps: float) -> int:
    """Return how many whole levels of 255 lie in `eps`, which rounding may have made smaller."""
    return int(eps * 255 + 1e-6)


def _in_noise(images: Tensor, noise: str, levels: int, generator: torch.Generator) -> Tensor:
    if noise == "clean":
        return images
    if noise == "uniform":
        change = torch.randint(-levels, levels + 1, images.shape, generator=generator)
    else:
        change = levels * (2 * torch.randint(2, images.shape, generator=generator) - 1)
    return (images.int() + change.int()).clamp(0, 255).to(torch.uint8)
