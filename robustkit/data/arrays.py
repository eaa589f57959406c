"""Arrays of images: read from users' files or refused by name, kept in memory or mapped.

Arrays that may be larger than memory are in RAM where they fit, else in a mapped file.
"""

from __future__ import annotations

import math
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustkit.compute.tensorfiles import read_only
from robustkit.errors import DataError, RobustkitError
from robustkit.jobs.shared import shared
from robustkit.reading import open_bounded, printable
from robustkit.runs.atomic import atomic_path
from robustkit.specs import shortened

Array = NDArray[Any]
Pixels = NDArray[np.uint8]
Fill = Callable[[Pixels], None]
CHANNELS = (1, 3)
GIB = 2**30
_NPY, _ZIP = b"\x93NUMPY", b"PK"
# A zip file may ask for what no reader has (NotImplementedError) or be encrypted (RuntimeError).
_UNREADABLE = (
    *(ValueError, OSError, EOFError, NotImplementedError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)


def read_npz(
    path: Path,
    required: tuple[str, ...] | Callable[[set[str]], tuple[str, ...]],
    optional: tuple[str, ...],
) -> dict[str, Array]:
    """Read the named arrays of a .npz file; optional ones only where they are there.

    `required` may depend on the names that are there. Nothing is unpickled. Raises DataError for a
    file that is missing, not a .npz, truncated or corrupt, for a missing key and for an array of
    Python objects or records.
    """
    with opened_npz(path, error=DataError) as archive:
        if not isinstance(required, tuple):
            required = required(set(archive))
        missing = [key for key in required if key not in archive]
        if missing:
            held = shortened(printable(", ".join(archive))) or "nothing"
            raise DataError(
                f"{path} has no '{missing[0]}'; it needs {', '.join(required)} and has {held}"
            )
        wanted = [key for key in (*required, *optional) if key in archive]
        for key in wanted:
            check_size(archive, key)
        return {key: archive[key] for key in wanted}


@contextmanager
def opened_npz(path: Path, *, error: type[RobustkitError]) -> Iterator[Any]:
    """Open a .npz file, of which nothing is unpickled.

    Raises `error`, naming the file, for one that is none, and for whatever is found to be damaged
    while it is open.
    """
    with open_bounded(path, error=error) as file:
        start = file.read(len(_NPY))
        if start == _NPY:
            raise error(f"{path}: one bare array; a .npz with named arrays is needed")
        if not start.startswith(_ZIP):
            raise error(f"{path}: cannot be read as a .npz, which is a zip archive of arrays")
        file.seek(0)
        try:
            with np.load(file, allow_pickle=False) as archive:
                names = archive.zip.namelist()
                if len(set(names)) < len(names):
                    twice = next(name for name in names if names.count(name) > 1)
                    raise ValueError(f"it holds '{printable(twice)}' twice")
                yield archive
        except _UNREADABLE as failure:
            raise error(
                f"{path}: cannot be read as a .npz of plain arrays: {one_line(failure)}"
            ) from failure


def check_size(archive: Any, key: str) -> None:
    """Raise `ValueError` where an array is said to be larger than what is there, or than memory.

    A few bytes of a header may ask for any amount, and a few compressed ones unfold to it.
    """
    name = key if key in archive.zip.namelist() else f"{key}.npy"
    held = archive.zip.getinfo(name).file_size
    try:
        with archive.zip.open(name) as file:
            shape, _, dtype = read_header(file)
    except ValueError as error:
        raise ValueError(f"'{key}': {one_line(error)}") from None
    size = math.prod(shape) * dtype.itemsize
    if size > held:
        shown = shortened(str(shape))
        raise ValueError(f"'{key}' of shape {shown} is said to have more bytes than the {held:,}")
    free = psutil.virtual_memory().available
    if held > free:
        raise ValueError(f"'{key}' takes {held:,} bytes, of which {free:,} are free")


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of an array: its shape, whether it lies by columns, and its type.

    Raises `ValueError` for what is none, and for an array of Python objects or records.
    """
    version = np.lib.format.read_magic(file)
    if version not in {(1, 0), (2, 0), (3, 0)}:
        raise ValueError(f"its format has the version {version}, which is unknown")
    read = np.lib.format.read_array_header_1_0
    if version != (1, 0):
        read = np.lib.format.read_array_header_2_0
    try:
        shape, by_columns, dtype = read(file)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        # The text in it is evaluated as a literal, which has depths of its own.
        raise ValueError("its header describes no array") from None
    if any(side < 0 or side >= 2**63 for side in shape):
        raise ValueError("its header describes no array: a side is negative, or beyond all numbers")
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are never unpickled")
    if dtype.fields is not None:
        raise ValueError("it holds records; plain numbers are wanted")
    return shape, by_columns, dtype


def map_npy(path: Path) -> Array:
    """Map a .npy file, read-only; raises DataError for one that is damaged or cut short."""
    with open_bounded(path, error=DataError) as file:
        try:
            shape, by_columns, dtype = read_header(file)
            size, start = math.prod(shape) * dtype.itemsize, file.tell()
            if size > os.fstat(file.fileno()).st_size - start:
                raise ValueError(f"an array of shape {shortened(str(shape))} has more bytes")
            if not size:
                return np.empty(shape, dtype)
            return np.memmap(file, dtype, "r", start, shape, "F" if by_columns else "C")
        except (ValueError, OSError, EOFError) as failure:
            raise DataError(
                f"{path} cannot be read as a whole .npy file: {one_line(failure)}"
            ) from None


def read_bytes(path: Path, limit: int = GIB) -> Array:
    """Read a file as uint8 (n,); raises DataError for one that is none or has beyond `limit`."""
    with open_bounded(path, error=DataError, limit=limit) as file:
        content: Array = np.fromfile(file, dtype=np.uint8)
    return content


def one_line(error: Exception) -> str:
    """Return an error's text in one line, without what other libraries put into it at length."""
    return shortened(printable(" ".join(str(error).split())))


def to_nchw(array: Array, where: str) -> Tensor:
    """Turn uint8 (N,H,W), (N,H,W,C) or (N,C,H,W) with C of 1 or 3 into uint8 (N,C,H,W).

    `where` names the array in errors. Raises DataError for another dtype or shape, no images, or
    a shape that could be read both ways.
    """
    if array.dtype != np.uint8:
        how = "; floats in [0,1] become so by (255 * x).round().astype('uint8')"
        raise DataError(
            f"{where} must be uint8 images in 0..255, not {_describe(array)}"
            + (how if array.dtype.kind == "f" else "")
        )
    return torch.from_numpy(np.ascontiguousarray(channels_first(array, where)))


def channels_first(array: Array, where: str) -> Array:
    """View (N,H,W), (N,H,W,C) or (N,C,H,W) with C of 1 or 3 as (N,C,H,W).

    Raises DataError for another shape, no images, or a shape that could be read both ways.
    """
    if array.size == 0:
        raise DataError(f"{where} is an empty split: its shape is {array.shape}")
    first = array.ndim == 4 and array.shape[1] in CHANNELS
    last = array.ndim == 4 and array.shape[3] in CHANNELS
    if array.ndim == 3:
        array = array[:, None]
    elif last and not first:
        array = array.transpose(0, 3, 1, 2)
    elif first and last:
        raise DataError(f"{where} can be read two ways, channels first or last: {array.shape}")
    elif not first:
        raise DataError(
            f"{where} must be (N,H,W), (N,H,W,C) or (N,C,H,W) with 1 or 3 channels, "
            f"not {array.shape}"
        )
    return array


def to_labels(array: Array, count: int, where: str) -> Tensor:
    """Turn an integer array (count,) of indices from 0 on into int64.

    Raises DataError for another dtype or shape, or a negative value.
    """
    if array.dtype.kind not in "iu" or array.shape != (count,):
        raise DataError(
            f"{where} must be integers of shape ({count},), one per image, not {_describe(array)}"
        )
    if array.size and int(array.min()) < 0:
        raise DataError(f"{where} has the negative label {array.min()}; labels count from 0")
    return torch.from_numpy(array.astype(np.int64))


def _describe(array: Array) -> str:
    text = f"{array.dtype} {array.shape}"
    if array.size and array.dtype.kind in "iuf":
        text += f" over [{array.min():g}, {array.max():g}]"
    return text


def in_memory_or_mapped(
    shape: tuple[int, ...], key: str, fill: Fill, limit: int | None = None
) -> Tensor:
    """Return a uint8 tensor of `shape` whose content `fill` writes.

    It lives in memory if it takes at most half of what is free, and at most `limit` bytes where
    that is given, else in a file named by `key` in the cache folder; a file that is there already
    is mapped as it is. `key` must therefore tell the content. Mapped tensors stream from disk and
    are read-only.
    """
    if math.prod(shape) <= _most_in_memory(limit):
        pixels = np.empty(shape, dtype=np.uint8)
        fill(pixels)
        return torch.from_numpy(pixels)
    path = cache_folder() / f"{key}.npy"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_array(path, shape, fill)
    mapped = map_array(path)
    if mapped.shape != shape:
        raise DataError(f"{path} holds {tuple(mapped.shape)}, not {shape}; delete it")
    return mapped


def spooled(
    shape: tuple[int, ...], fill: Callable[[Any], None], limit: int | None, dtype: Any = np.uint8
) -> Tensor:
    """Return a tensor of `shape` and `dtype` whose content `fill` writes and no name tells.

    It lives in memory as in `in_memory_or_mapped`, else in a file without a name in the cache
    folder, which goes when the tensor goes. Raises DataError where the disk has no room for it.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    array = np.empty(shape, dtype) if size <= _most_in_memory(limit) else unnamed(shape, dtype)
    fill(array)
    return torch.from_numpy(array)


def unnamed(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Map a file of the cache folder that has no name; raises DataError without room for it."""
    folder = cache_folder()
    size = math.prod(shape) * np.dtype(dtype).itemsize
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            # Room that turned out to be missing while it is written to would kill the process.
            _reserve(file.fileno(), size)
            return np.memmap(file, dtype=dtype, mode="r+", shape=shape)
    except OSError as error:
        raise DataError(f"no room for {size:,} bytes of pictures in {folder}: {error}") from error


def _reserve(descriptor: int, size: int) -> None:
    """Have the system keep `size` bytes of a file, where it can; macOS only notes the length."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.ftruncate(descriptor, size)


class Spool:
    """Rows of one shape and dtype that come one after the other, in memory or in an unnamed file.

    Up to `limit` bytes are kept in memory; beyond, all of them are in the cache folder, in a file
    that goes when the last array on it goes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[NDArray[Any]] = []
        self._file: IO[bytes] | None = None
        self._bytes = self._rows = 0

    def append(self, rows: NDArray[Any]) -> None:
        """Add `rows` (n,…); raises DataError where the disk has no room for them."""
        self._like = rows[:0]
        self._rows += len(rows)
        self._bytes += rows.nbytes
        self._parts.append(rows)
        if self._file is not None or self._bytes > self._limit:
            self._write()

    def __len__(self) -> int:
        return self._rows

    def array(self) -> NDArray[Any]:
        """Return all rows, (N,…): one array in memory, or a map of the file."""
        if self._file is None:
            return np.concatenate(self._parts)
        self._file.flush()
        shape = (self._rows, *self._like.shape[1:])
        return np.memmap(self._file, dtype=self._like.dtype, mode="r+", shape=shape)

    def _write(self) -> None:
        folder = cache_folder()
        try:
            if self._file is None:
                folder.mkdir(parents=True, exist_ok=True)
                self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 — outlives this
            for array in self._parts:
                self._file.write(np.ascontiguousarray(array).data)
        except OSError as error:
            raise DataError(f"no room for {self._bytes:,} bytes in {folder}: {error}") from error
        self._parts.clear()


def _most_in_memory(limit: int | None) -> int:
    """Return the bytes to use: half of what is free, or `limit` where that is less."""
    most = int(psutil.virtual_memory().available // 2)
    return most if limit is None else min(limit, most)


def write_array(
    path: Path, shape: tuple[int, ...], fill: Callable[[Any], None], dtype: Any = np.uint8
) -> None:
    """Write a .npy file of `dtype` through a memory map, whole or not at all."""
    with atomic_path(path) as temporary:
        mapped = np.lib.format.open_memmap(temporary, "w+", dtype, shape)
        fill(mapped)
        mapped.flush()


def map_array(path: Path) -> Tensor:
    """Map a .npy file as a read-only tensor. Raises DataError if it is not a whole one.

    An array that is shared under this path (see `robustkit.jobs.shared`) is taken instead.
    """
    given = shared(str(path))
    if given is not None:
        return read_only(given)
    try:
        array = map_npy(path)
    except DataError as error:
        raise DataError(f"{error}; delete it") from error
    return read_only(array)


def cache_folder() -> Path:
    """Return the folder for decoded images: ROBUSTKIT_CACHE, or the user's cache folder's."""
    chosen = os.environ.get("ROBUSTKIT_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "robustkit"
