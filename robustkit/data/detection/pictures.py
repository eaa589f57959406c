"""Image files of detection sets: their sizes and their pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from robustkit.data.arrays import one_line
from robustkit.data.picturefile import decode, opened_picture
from robustkit.errors import DataError


def read_colour(file: Path) -> Tensor:
    """The pixels of an image file as uint8 (3,H,W); raises `DataError` naming the file."""
    with opened_picture(file) as image:
        try:
            pixels = _eight_bit(decode(image, file))
        except ValueError as error:
            raise DataError(f"{file}: not readable as an image ({one_line(error)})") from None
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _eight_bit(image: Image.Image) -> NDArray[np.uint8]:
    """(H,W,3); PIL itself cuts grey of more than 8 bits off at white."""
    if image.mode.startswith("I;16"):
        grey = (np.asarray(image).astype(np.uint32) * 255 + 32767) // 65535
        return np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise ValueError(f"grey of 32 bits ({image.mode}); 8 or 16 bits a channel are wanted")
    return np.array(image.convert("RGB"))


def size_of(file: Path) -> tuple[int, int]:
    """(width, height) from the header of an image file; raises `DataError` naming the file."""
    with opened_picture(file) as image:
        return image.size
