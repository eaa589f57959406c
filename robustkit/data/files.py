"""Image files: looked at before they are decoded, decoded when they are needed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image
from torch import Tensor

from robustkit.data.arrays import one_line
from robustkit.data.picturefile import decode, opened_picture
from robustkit.data.pictures import Format, Pictures, in_threads, shaped_pixels, slices
from robustkit.data.storage import Pixels, in_memory_or_mapped
from robustkit.errors import DataError
from robustkit.geometry import Geometry
from robustkit.reading import is_printable, printable

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
        """The pictures at `indices`, in that order."""
        return PictureFiles([self.paths[index] for index in indices.tolist()])

    def _chosen(self, indices: Tensor) -> list[Path]:
        return [Path(self.paths[index]) for index in indices.tolist()]


def find_images(folder: Path) -> list[Path]:
    """Return the image files below `folder`, sorted; hidden ones and other files do not count."""
    return [Path(path) for path in image_paths(folder)]


def image_paths(folder: Path) -> list[str]:
    """Return what `find_images` does, as text: of millions of files that is what fits in memory."""
    found: list[tuple[str, ...]] = []
    _scan(str(folder), (), found)
    found.sort()
    return [os.path.join(folder, *parts) for parts in found]  # noqa: PTH118 — see above


def check_name(name: str, folder: Path | str) -> None:
    """Raise DataError for a file or folder whose name cannot be told in a report."""
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
    """Whether an entry is a folder, or a link to one; a link to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_image(name: str) -> bool:
    """Whether a file of this name counts as a picture."""
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
        for part in slices(len(paths)):
            for path, (mode, found) in zip(
                paths[part], pool.map(_header, paths[part]), strict=True
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

        for part in slices(len(paths)):
            in_threads(decode, range(part.start, part.stop))

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
    """A name for exactly these files in this format; a file touched since gives another."""
    sha = hashlib.sha256(repr(form).encode())
    if form.geometry is not None:
        sha.update(repr(form.geometry).encode())
    for path in paths:
        stat = path.stat()
        sha.update(f"{path.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return f"images-{sha.hexdigest()[:32]}"


def joined(parts: Sequence[PictureFiles]) -> PictureFiles:
    """All files of `parts`, sorted: for what is common to them."""
    return PictureFiles(sorted(path for part in parts for path in part.paths))
