"""Pictures that are read when they are asked for: arrays here, files in `files`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from PIL import Image
from torch import Tensor

from robustkit.data.storage import Pixels, spooled
from robustkit.errors import DataError
from robustkit.geometry import Geometry

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
        """The pictures of one tensor, uint8 (N,C,H,W)."""
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
            for part in slices(len(indices)):
                pixels[part] = self._formed(self._pick(indices[part]), form)

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
    """The picture of uint8 (C,H,W) with 1 or 3 channels."""
    array = image[0] if len(image) == 1 else image.permute(1, 2, 0)
    return Image.fromarray(np.ascontiguousarray(array.numpy()))
