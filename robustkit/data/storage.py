"""Pixel arrays that may be larger than memory: in RAM where they fit, else mapped from a file."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustkit.compute.tensorfiles import read_only
from robustkit.data.arrays import map_npy
from robustkit.errors import DataError
from robustkit.jobs.shared import shared
from robustkit.runs.atomic import atomic_path

Pixels = NDArray[np.uint8]
Fill = Callable[[Pixels], None]


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
            for part in self._parts:
                self._file.write(np.ascontiguousarray(part).data)
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
