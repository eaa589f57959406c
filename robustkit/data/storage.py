"""Pixel arrays that may be larger than memory: in RAM where they fit, else mapped from a file."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustkit.compute.held import held
from robustkit.data.arrays import one_line
from robustkit.errors import DataError
from robustkit.runs.atomic import atomic_path

Pixels = NDArray[np.uint8]
Fill = Callable[[Pixels], None]


def in_memory_or_mapped(shape: tuple[int, ...], key: str, fill: Fill) -> Tensor:
    """Return a uint8 tensor of `shape` whose content `fill` writes.

    It lives in memory if it takes at most half of what is free, else in a file named by `key` in
    the cache folder; a file that is there already is mapped as it is. `key` must therefore tell
    the content. Mapped tensors stream from disk and are read-only.
    """
    if math.prod(shape) <= psutil.virtual_memory().available // 2:
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

    Where this process was given the array to hold (see `robustkit.compute.held`), it is taken
    instead of the file.
    """
    given = held(str(path))
    if given is not None:
        return read_only(given)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} is not a whole .npy file: {one_line(error)}; delete it") from error
    return read_only(array)


def read_only(array: NDArray[Any]) -> Tensor:
    """A tensor of the shape and dtype of `array` on its memory, which need not be writable.

    Whoever writes into it writes into `array`, or is stopped by the system where that is mapped.
    """
    with warnings.catch_warnings():
        # A writable private map would be charged against memory, which is what is short.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def cache_folder() -> Path:
    """Where decoded images are kept: ROBUSTKIT_CACHE, or robustkit in the user's cache folder."""
    chosen = os.environ.get("ROBUSTKIT_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "robustkit"
