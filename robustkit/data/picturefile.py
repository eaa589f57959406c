"""The one door to picture files: regular ones, of a known kind, within bounds."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from robustkit.errors import DataError
from robustkit.reading import open_bounded, printable
from robustkit.specs import shortened

MOST_PIXELS = 2**30 // 12
"""Pixels of a picture: a quarter of a gibibyte in three channels. Pillow warns of more."""
# Others call programs (PostScript) or are no pictures of data sets.
KINDS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")
# Whatever a decoder stumbles over in a damaged file.
DAMAGED = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, AttributeError, LookupError),
    *(ArithmeticError, RuntimeError, struct.error, zlib.error, Image.DecompressionBombError),
)


@contextmanager
def opened_picture(path: Path | str) -> Iterator[Image.Image]:
    """Open a picture file, of which nothing is decoded yet; see `decode`.

    Raises `DataError`, naming the file, for one that is missing, is no regular file or no picture,
    and for one of more than 89 million pixels.
    """
    with open_bounded(path, error=DataError) as file:
        try:
            image = Image.open(file, formats=_kinds())
        except UnidentifiedImageError:
            raise DataError(f"{path} cannot be decoded as an image: of no known kind") from None
        except DAMAGED as error:
            raise _undecodable(path, error) from None
        with image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise DataError(
                    f"{path} cannot be decoded as an image: it is said to have {width}x{height} "
                    f"pixels, more than the {MOST_PIXELS:,} of any picture here"
                )
            yield image


def decode(image: Image.Image, path: Path | str) -> Image.Image:
    """Decode an opened picture, which is also returned; raises `DataError`, naming the file."""
    try:
        image.load()
    except DAMAGED as error:
        raise _undecodable(path, error) from None
    return image


@cache
def _kinds() -> tuple[str, ...]:
    """Those of `KINDS` that this Pillow was built with."""
    Image.init()
    return tuple(kind for kind in KINDS if kind in Image.OPEN)


def _undecodable(path: Path | str, error: Exception) -> DataError:
    told = shortened(printable(" ".join(str(error).split())))
    return DataError(f"{path} cannot be decoded as an image: {told or type(error).__name__}")
