"""Pictures that are read when they are asked for: arrays here, files in `files`."""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from robustkit.data.arrays import Pixels, in_memory_or_mapped, one_line, spooled
from robustkit.errors import DataError
from robustkit.geometry import Geometry
from robustkit.reading import is_printable, open_bounded, printable
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
    """Return those of `KINDS` that this Pillow was built with."""
    Image.init()
    return tuple(kind for kind in KINDS if kind in Image.OPEN)


def _undecodable(path: Path | str, error: Exception) -> DataError:
    reason = shortened(printable(" ".join(str(error).split())))
    return DataError(f"{path} cannot be decoded as an image: {reason or type(error).__name__}")


CHUNK = 256  # pictures handled at once, so that neither tasks nor copies grow with the set
LONGEST_SIDE = 2**16  # pixels of a resized picture; beyond, a strip would fill the memory
_S = TypeVar("_S")
_T = TypeVar("_T")


@dataclass(frozen=True)
class Format:
    """What every picture becomes: (channels, height, width), 1 channel for grey and 3 for RGB.

    `geometry` says how; None: the whole picture, without keeping its aspect, bilinearly.
    """

    channels: int
    height: int
    width: int
    geometry: Geometry | None = field(default=None, repr=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.channels, self.height, self.width


class Pictures(ABC):
    """Pictures by their position, of which nothing is decoded before `read`."""

    @abstractmethod
    def form(self, indices: Tensor, geometry: Geometry | None = None) -> Format:
        """Return what the pictures at `indices` (int64) become by `geometry`, None: as they are.

        Raises DataError where they differ in size and no geometry makes them alike.
        """

    @abstractmethod
    def read(self, indices: Tensor, form: Format, limit: int | None = None) -> Tensor:
        """Return the pictures at `indices` as uint8 (n,C,H,W), C, H and W being those of `form`.

        At most `limit` bytes are kept in memory; more are mapped from a file. None: what fits.
        Raises DataError naming a picture that cannot be read.
        """


class StoredPictures(Pictures):
    """Pictures of one shape (C,H,W) that `pick(indices)` returns as uint8 (n,C,H,W)."""

    def __init__(self, pick: Callable[[Tensor], Tensor], shape: tuple[int, int, int]) -> None:
        self._pick, self._shape = pick, shape

    @classmethod
    def of(cls, images: Tensor) -> StoredPictures:
        """Return the pictures of one tensor, uint8 (N,C,H,W)."""
        _, channels, height, width = images.shape
        return cls(images.__getitem__, (channels, height, width))

    def form(self, indices: Tensor, geometry: Geometry | None = None) -> Format:
        """Return the arrays' own shape, or that of a geometry with another size."""
        channels, height, width = self._shape
        if geometry is None or geometry.size == (height, width):
            return Format(channels, height, width)
        return Format(channels, *geometry.size, geometry)

    def read(self, indices: Tensor, form: Format, limit: int | None = None) -> Tensor:
        """Return the arrays, each resized as a picture where `form` has another size."""
        if form.shape == self._shape and (limit is None or self._bytes(indices, form) <= limit):
            return self._pick(indices)

        def fill(pixels: Pixels) -> None:
            for rows in slices(len(indices)):
                pixels[rows] = self._formed(self._pick(indices[rows]), form)

        return spooled((len(indices), *form.shape), fill, limit)

    @staticmethod
    def _bytes(indices: Tensor, form: Format) -> int:
        return len(indices) * form.channels * form.height * form.width

    @staticmethod
    def _formed(images: Tensor, form: Format) -> Pixels:
        if images.shape[2:] == (form.height, form.width):
            return images.expand(-1, form.channels, -1, -1).numpy()
        rows = in_threads(lambda image: shaped_pixels(_picture(image), form), list(images))
        return np.stack(rows)


def with_channels(form: Format, channels: int | None) -> Format:
    """Return `form` with as many channels as asked for; raises DataError for grey of colour."""
    if channels is None or channels == form.channels:
        return form
    if channels != 3:
        raise DataError(f"pictures in {form.channels} channels cannot be read in {channels}")
    return replace(form, channels=channels)


def shaped_pixels(picture: Image.Image, form: Format) -> Pixels:
    """Return the pixels of a picture as uint8 (C,H,W): colours first, then the geometry.

    As the published pipelines of torchvision do it on a PIL picture, to the same bytes. Raises
    ValueError for a strip that would become too long.
    """
    picture = picture.convert("L" if form.channels == 1 else "RGB")
    if form.geometry is not None:
        picture = shaped(picture, form.geometry)
    elif picture.size != (form.width, form.height):
        picture = picture.resize((form.width, form.height), Image.Resampling.BILINEAR)
    array = np.asarray(picture, dtype=np.uint8)
    return array[None] if form.channels == 1 else array.transpose(2, 0, 1)


def shaped(picture: Image.Image, geometry: Geometry) -> Image.Image:
    """Return `picture` resized and cropped at its centre as `geometry` says, by torchvision."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as TF

    resize = geometry.resize
    if resize is not None:
        if isinstance(resize, int) and resize * max(picture.size) > LONGEST_SIDE * min(
            picture.size
        ):
            width, height = picture.size
            raise ValueError(f"a strip of {width}x{height} pixels cannot keep its aspect")
        side = [resize] if isinstance(resize, int) else list(resize)
        mode = InterpolationMode(geometry.interpolation)
        picture = TF.resize(picture, side, mode, antialias=True)
    cropped: Image.Image = TF.center_crop(picture, list(geometry.size))
    return cropped


def slices(count: int, step: int = CHUNK) -> Iterator[slice]:
    """Yield slices of at most `step` that cover range(count)."""
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def in_threads(work: Callable[[_S], _T], items: Iterable[_S]) -> list[_T]:
    """Map in threads, in order: decoding releases the interpreter's lock."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(work, items))


def _picture(image: Tensor) -> Image.Image:
    """Return the picture of uint8 (C,H,W) with 1 or 3 channels."""
    array = image[0] if len(image) == 1 else image.permute(1, 2, 0)
    return Image.fromarray(np.ascontiguousarray(array.numpy()))


SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tiff", ".webp"})
_GREY = frozenset({"1", "L"})


class PictureFiles(Pictures):
    """Pictures in files, in the order of `paths`."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = paths

    def form(self, indices: Tensor, geometry: Geometry | None = None) -> Format:
        """Return the common format by the headers of the files at `indices` alone."""
        return survey(self._chosen(indices), geometry=geometry)

    def read(self, indices: Tensor, form: Format, limit: int | None = None) -> Tensor:
        """Decode the files at `indices`; beyond `limit` once, into the cache folder."""
        return read_images(self._chosen(indices), form, limit)

    def subset(self, indices: Tensor) -> PictureFiles:
        """Return the pictures at `indices`, in that order."""
        return PictureFiles([self.paths[index] for index in indices.tolist()])

    def _chosen(self, indices: Tensor) -> list[Path]:
        return [Path(self.paths[index]) for index in indices.tolist()]


def find_images(folder: Path) -> list[Path]:
    """Return the image files below `folder`, sorted; hidden ones and other files do not count."""
    return [Path(path) for path in image_paths(folder)]


def image_paths(folder: Path) -> list[str]:
    """Return what `find_images` does, as text: of millions of files that is what fits in memory."""
    paths_found: list[tuple[str, ...]] = []
    _scan(str(folder), (), paths_found)
    paths_found.sort()
    return [os.path.join(folder, *parts) for parts in paths_found]  # noqa: PTH118 — see above


def check_name(name: str, folder: Path | str) -> None:
    """Raise DataError for a file or folder whose name cannot be printed in a report."""
    if not is_printable(name):
        raise DataError(
            f"{folder} holds '{printable(name)}', whose name is not UTF-8 without control "
            "characters; rename it"
        )


def _scan(folder: str, above: tuple[str, ...], found: list[tuple[str, ...]]) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if is_folder(entry):
                if not entry.is_symlink():  # which might lead round in a circle
                    check_name(entry.name, folder)
                    _scan(entry.path, (*above, entry.name), found)
            elif is_image(entry.name):
                check_name(entry.name, folder)
                found.append((*above, entry.name))


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder, or a link to one; a link to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_image(name: str) -> bool:
    """Return whether a file of this name counts as a picture."""
    return os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122 — a Path each is slow


def survey(
    paths: Sequence[Path], size: int | None = None, geometry: Geometry | None = None
) -> Format:
    """Read the headers of all files and return their common format.

    `size` makes it square without keeping the aspect, `geometry` gives it that of its crop. The
    format is grey if every file is. Raises DataError naming the first file that cannot be read,
    has more than 8 bits per channel or, with neither, differs in size from the first.
    """
    channels, first = 1, None
    with ThreadPoolExecutor() as pool:
        for rows in slices(len(paths)):
            for path, (mode, found) in zip(
                paths[rows], pool.map(_header, paths[rows]), strict=True
            ):
                channels = channels if mode in _GREY else 3
                first = first or found
                if found != first and size is None and geometry is None:
                    side = min(first)
                    raise DataError(
                        f"{path} is {found[0]}x{found[1]} pixels, {paths[0]} is "
                        f"{first[0]}x{first[1]}; one size is needed: add '?size={side}' to the "
                        f"path ('&size={side}' after other options) to resize all"
                    )
    if first is None:
        raise DataError("no pictures to look at")
    if geometry is not None:
        return Format(channels, *geometry.size, geometry)
    if size is not None:
        return Format(channels, size, size)
    return Format(channels, first[1], first[0])


def read_images(paths: Sequence[Path], form: Format, limit: int | None = None) -> Tensor:
    """Decode files to uint8 (N,C,H,W), in memory or, where they do not fit, mapped from a cache.

    At most `limit` bytes are kept in memory, None: half of what is free. Colour becomes RGB and
    transparency is dropped. Raises DataError naming a file that cannot be decoded.
    """

    def fill(pixels: Pixels) -> None:
        def decode(index: int) -> None:
            pixels[index] = _decode(paths[index], form)

        for rows in slices(len(paths)):
            in_threads(decode, range(rows.start, rows.stop))

    shape = (len(paths), *form.shape)
    return in_memory_or_mapped(shape, _key(paths, form), fill, limit)


def _header(path: Path) -> tuple[str, tuple[int, int]]:
    with opened_picture(path) as image:
        _check_mode(image, path)
        return image.mode, image.size


def _decode(path: Path, form: Format) -> Pixels:
    with opened_picture(path) as image:
        _check_mode(image, path)
        try:
            return shaped_pixels(decode(image, path), form)
        except ValueError as error:
            raise DataError(f"{path} cannot be decoded as an image: {one_line(error)}") from error


def _check_mode(image: Image.Image, path: Path) -> None:
    if image.mode.startswith(("I", "F")):
        raise DataError(f"{path} has mode {image.mode}; 8 bits per channel are needed")


def _key(paths: Sequence[Path], form: Format) -> str:
    """Return a name for exactly these files in this format; touched files change it."""
    sha = hashlib.sha256(repr(form).encode())
    if form.geometry is not None:
        sha.update(repr(form.geometry).encode())
    for path in paths:
        stat = path.stat()
        sha.update(f"{path.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return f"images-{sha.hexdigest()[:32]}"


def joined(parts: Sequence[PictureFiles]) -> PictureFiles:
    """Return all files of `parts`, sorted: for what is common to them."""
    return PictureFiles(sorted(path for part in parts for path in part.paths))
