"""Pictures of odd sizes, and what a net's first layer is fed."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from robustkit.data.pictures import Format, shaped_pixels
from robustkit.geometry import Geometry

SIZES = ((70, 91), (120, 64), (300, 280))


def photographs(seed: int = 0) -> list[Image.Image]:
    """Three colour pictures of different sizes, with fine and coarse structure."""
    rng = np.random.default_rng(seed)
    made = []
    for height, width in SIZES:
        coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        whole = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        noise = rng.integers(-20, 21, (height, width, 3))
        pixels = np.clip(np.asarray(whole).astype(int) + noise, 0, 255).astype(np.uint8)
        made.append(Image.fromarray(pixels))
    return made


def shown(picture: Image.Image, geometry: Geometry) -> Tensor:
    """The picture in the pixel space that a geometry makes: (1,C,H,W) in [0,1]."""
    pixels = shaped_pixels(picture, Format(3, *geometry.size, geometry))
    return torch.from_numpy(pixels.copy())[None] / 255


def fed_to(net: nn.Module, model: nn.Module, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """What `net`'s first convolution is fed while `model` sees the pictures, and its logits."""
    seen: list[Tensor] = []
    first = next(each for each in net.modules() if isinstance(each, nn.Conv2d))
    handle = first.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach().clone()))
    try:
        with torch.no_grad():
            logits = model(pictures)
    finally:
        handle.remove()
    return seen[0], logits
