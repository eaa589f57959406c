"""How much a gradient looks like something in the image."""

from __future__ import annotations

import torch
from torch import Tensor

from robustkit.attacks import alignment

CUTOFF = 0.125  # cycles a pixel: a quarter of the highest frequency there is


def low_frequency_share(gradients: Tensor, cutoff: float = CUTOFF) -> Tensor:
    """The share (N,) of the energy of gradients (N,C,H,W) at radial frequencies up to `cutoff`.

    `cutoff` is in cycles a pixel. White noise has the share of frequencies there are, about
    pi·cutoff². NaN where the gradient is zero.
    """
    height, width = gradients.shape[-2:]
    energy = torch.fft.fft2(gradients.double()).abs().square()
    radius = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width)[None])
    share: Tensor = energy[..., radius <= cutoff].sum(dim=(1, 2)) / energy.sum(dim=(1, 2, 3))
    return share


def image_alignment(gradients: Tensor, images: Tensor) -> Tensor:
    """|cos| (N,) between gradients (N,C,H,W) and the images less each channel's mean.

    After Etmann, Lunz, Maass and Schönlieb 2019, without the scale. NaN where either is zero.
    """
    return alignment(gradients, images - images.mean(dim=(2, 3), keepdim=True)).cosine.abs()
