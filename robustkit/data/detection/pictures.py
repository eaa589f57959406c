"""Image files of detection sets: their sizes and their pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from robustkit.errors import DataError

_UNREADABLE = (
    *(UnidentifiedImageError, OSError, ValueError, SyntaxError),
    Image.DecompressionBombError,
)


def read_colour(file: Path) -> Tensor:
    """The pixels of an image file as uint8 (3,H,W); raises `DataError` naming the file."""
    try:
        with Image.open(file) as opened:
            pixels = np.array(opened.convert("RGB"))
    except FileNotFoundError:
        raise DataError(f"{file}: no such image") from None
    except _UNREADABLE as error:
        raise DataError(f"{file}: not readable as an image ({error})") from None
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def size_of(file: Path) -> tuple[int, int]:
    """(width, height) from the header of an image file; raises `DataError` naming the file."""
    try:
        with Image.open(file) as opened:
            return opened.size
    except FileNotFoundError:
        raise DataError(f"{file}: no such image") from None
    except _UNREADABLE as error:
        raise DataError(f"{file}: not readable as an image ({error})") from None
