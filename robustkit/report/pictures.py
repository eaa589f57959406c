"""Pictures: of images, magnified perturbations and gradients, and those that a run folder holds."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from robustkit.errors import RunError
from robustkit.reading import open_inside
from robustkit.runs import RunFolder

Picture = NDArray[np.uint8]

_PNG = b"\x89PNG\r\n\x1a\n"  # how such a file begins


def picture(image: Tensor) -> Picture:
    """An image (C,H,W) in [0,1] as uint8 (H,W,3), or (H,W) where C is 1."""
    pixels = np.round(255 * image.clamp(0, 1).numpy()).astype(np.uint8)
    return _channels_last(pixels)


def magnification(perturbation: Tensor) -> int:
    """The largest whole factor at which a perturbation still fits around mid-grey, at least 1."""
    largest = float(perturbation.abs().max())
    return max(1, int(0.5 / largest + 1e-3)) if largest > 0 else 1


def perturbation_picture(perturbation: Tensor, factor: int) -> Picture:
    """A perturbation (C,H,W) times `factor` around mid-grey."""
    return picture(0.5 + factor * perturbation)


def gradient_picture(gradient: Tensor) -> Picture:
    """Where a gradient (C,H,W) is large: its absolute values, summed over channels, as heat.

    The brightest hundredth of the pixels is white; a gradient of zeros is black.
    """
    from matplotlib import colormaps

    heat: NDArray[Any] = gradient.abs().sum(dim=0).double().numpy()
    top = float(np.quantile(heat, 0.99)) or float(heat.max())
    scaled = np.clip(heat / top, 0, 1) if top > 0 else np.zeros_like(heat)
    coloured: NDArray[Any] = np.asarray(colormaps["inferno"](scaled))[..., :3]
    return np.round(255 * coloured).astype(np.uint8)


def _channels_last(pixels: Picture) -> Picture:
    return pixels[0] if pixels.shape[0] == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))


def kept_picture(folder: RunFolder, name: str) -> str:
    """Return a PNG file of a run folder as a data URI.

    Raises `RunError`, naming the file, where it is missing, a link, no PNG or of more than 64 MiB.
    """
    with open_inside(folder.path, name, error=RunError) as file:
        content = file.read()
    if not content.startswith(_PNG):
        raise RunError(f"{folder.file(name)}: not a PNG picture")
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def show_image(place: Any, pixels: Tensor) -> None:
    """Draw an image, uint8 (C,H,W), into a matplotlib axis: grey as grey, black as black."""
    laid = pixels.permute(1, 2, 0).numpy()
    place.imshow(laid[..., 0] if laid.shape[2] == 1 else laid, cmap="gray", vmin=0, vmax=255)
