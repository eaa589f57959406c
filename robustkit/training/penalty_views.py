"""Stored views of training images inside the ball in which attacks move.

A penalty on the gradients at the images themselves saturates: cosines near zero there still leave
transfer high, since adversarials lie `eps` away (methods §1). Views with noise in them ask for
misalignment where adversarials are. They are no adversarials: the noise knows no network.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustkit.compute.seeds import torch_generator
from robustkit.errors import ConfigError
from robustkit.settings import check_choice

KINDS: dict[str, tuple[str, ...]] = {
    "clean": ("clean", "clean"),
    "uniform": ("uniform", "uniform", "uniform", "uniform"),
    "corner": ("corner", "corner", "corner", "corner"),
    "mixed": ("clean", "clean", "uniform", "uniform", "corner", "corner"),
}
"""By name, the noise in each view; every second view is mirrored as well."""


def penalty_views(images: Tensor, kind: str, *, eps: float, seed: int) -> Tensor:
    """Return views of `images` uint8 (N,C,H,W), uint8 (K,N,C,H,W), with the noise of `kind`.

    "uniform" noise is drawn from the l-infinity ball of radius `eps` (in [0,1] units), "corner"
    noise is `eps` or -`eps` in every entry; "mixed" has views of both and clean ones. Levels are
    whole and stay in 0..255. Raises `ConfigError` for an unknown kind or an `eps` below one level.
    """
    check_choice("penalty_views", kind, tuple(KINDS))
    levels = int(eps * 255 + 1e-6)
    if kind != "clean" and levels < 1:
        raise ConfigError(f"penalty_views {kind}: eps must be at least 1/255, not {eps:g}")
    generator = torch_generator("penalty views", kind, seed)
    views = []
    for number, noise in enumerate(KINDS[kind]):
        view = images if number % 2 == 0 else images.flip(-1)
        views.append(_noisy(view, noise, levels, generator))
    return torch.stack(views)


def _noisy(images: Tensor, noise: str, levels: int, generator: torch.Generator) -> Tensor:
    if noise == "clean":
        return images
    if noise == "uniform":
        change = torch.randint(-levels, levels + 1, images.shape, generator=generator)
    else:
        change = levels * (2 * torch.randint(2, images.shape, generator=generator) - 1)
    return (images.int() + change.int()).clamp(0, 255).to(torch.uint8)
