"""Image files of one size: looked at before they are decoded, decoded when they are needed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image
from torch import Tensor

from robustkit.data.storage import Pixels, in_memory_or_mapped
from robustkit.errors import DataError

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tiff", ".webp"})
_GREY = frozenset({"1", "L"})
_S = TypeVar("_S")
_T = TypeVar("_T")


@dataclass(frozen=True)
class Format:
    """What every image becomes: (channels, height, width), 1 channel for grey and 3 for RGB."""

    channels: int
    height: int
    width: int


def find_images(folder: Path) -> list[Path]:
    """Return the image files below `folder`, sorted; hidden ones and other files do not count."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and not any(name.startswith(".") for name in path.relative_to(folder).parts)
    )


def survey(paths: Sequence[Path], size: int | None) -> Format:
    """Read the headers of all files and return their common format; `size` makes it square.

    The format is grey if every file is. Raises DataError naming the first file that cannot be
    read, has more than 8 bits per channel or, without `size`, differs in size from the first.
    """
    headers = _in_threads(_header, paths)
    channels = 1 if all(mode in _GREY for mode, _ in headers) else 3
    if size is not None:
        return Format(channels, size, size)
    width, height = headers[0][1]
    for path, (_, found) in zip(paths, headers, strict=True):
        if found != (width, height):
            raise DataError(
                f"{path} is {found[0]}x{found[1]} pixels, {paths[0]} is {width}x{height}; "
                f"one size is needed: add '?size={min(width, height)}' to the path to resize all"
            )
    return Format(channels, height, width)


def read_images(paths: Sequence[Path], form: Format) -> Tensor:
    """Decode files to uint8 (N,C,H,W), in memory or, where they do not fit, mapped from a cache.

    Images of another size are resized with antialiasing, without keeping their aspect; colour
    becomes RGB and transparency is dropped. Raises DataError naming a file that cannot be decoded.
    """

    def fill(pixels: Pixels) -> None:
        def decode(index: int) -> None:
            pixels[index] = _decode(paths[index], form)

        _in_threads(decode, range(len(paths)))

    shape = (len(paths), form.channels, form.height, form.width)
    return in_memory_or_mapped(shape, _key(paths, form), fill)


def _in_threads(work: Callable[[_S], _T], items: Iterable[_S]) -> list[_T]:
    """Map in threads, in order: decoding releases the interpreter's lock."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(work, items))


def _header(path: Path) -> tuple[str, tuple[int, int]]:
    with _opened(path) as image:
        if image.mode.startswith(("I", "F")):
            raise DataError(f"{path} has mode {image.mode}; 8 bits per channel are needed")
        return image.mode, image.size


def _decode(path: Path, form: Format) -> Pixels:
    with _opened(path) as image:
        try:
            pixels = image.convert("L" if form.channels == 1 else "RGB")
        except (OSError, SyntaxError, ValueError) as error:
            raise _undecodable(path, error) from error
    if pixels.size != (form.width, form.height):
        pixels = pixels.resize((form.width, form.height), Image.Resampling.BILINEAR)
    array = np.asarray(pixels, dtype=np.uint8)
    return array[None] if form.channels == 1 else array.transpose(2, 0, 1)


def _opened(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _undecodable(path, error) from error


def _undecodable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} cannot be decoded as an image: {error}")


def _key(paths: Sequence[Path], form: Format) -> str:
    """A name for exactly these files in this format; a file touched since gives another."""
    sha = hashlib.sha256(repr(form).encode())
    for path in paths:
        stat = path.stat()
        sha.update(f"{path.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return f"images-{sha.hexdigest()[:32]}"
