"""Image arrays as people store them, turned into what an ImageSet holds, or refused by name."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustkit.errors import DataError

Array = NDArray[Any]
CHANNELS = (1, 3)
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
    Python objects.
    """
    if not path.is_file():
        raise DataError(f"no such file: {path}")
    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise DataError(f"{path} is one bare array; a .npz with named arrays is needed")
        with loaded as archive:
            if not isinstance(required, tuple):
                required = required(set(archive))
            missing = [key for key in required if key not in archive]
            if missing:
                held = " ".join(", ".join(archive).split()) or "nothing"
                raise DataError(
                    f"{path} has no '{missing[0]}'; it needs {', '.join(required)} and has {held}"
                )
            wanted = [key for key in (*required, *optional) if key in archive]
            for key in wanted:
                check_size(archive, key)
            return {key: archive[key] for key in wanted}
    except _UNREADABLE as error:
        raise DataError(
            f"{path} cannot be read as a .npz of plain arrays: {one_line(error)}"
        ) from error


def check_size(archive: Any, key: str) -> None:
    """Raise `ValueError` where an array is said to be larger than what is there, or than memory.

    A few bytes of a header may ask for any amount, and a few compressed ones unfold to it.
    """
    name = key if key in archive.zip.namelist() else f"{key}.npy"
    held = archive.zip.getinfo(name).file_size
    with archive.zip.open(name) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            read = np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    size = math.prod(shape) * dtype.itemsize
    if not dtype.hasobject and size > held:
        raise ValueError(f"'{key}' of shape {shape} is said to have more bytes than the {held:,}")
    free = psutil.virtual_memory().available
    if held > free:
        raise ValueError(f"'{key}' takes {held:,} bytes, of which {free:,} are free")


def one_line(error: Exception) -> str:
    """Return an error's text without the line breaks that other libraries put into it."""
    return " ".join(str(error).split())


def to_nchw(array: Array, where: str) -> Tensor:
    """Turn uint8 (N,H,W), (N,H,W,C) or (N,C,H,W) with C of 1 or 3 into uint8 (N,C,H,W).

    `where` names the array in errors. Raises DataError for another dtype or shape, no images, or
    a shape that could be read both ways.
    """
    if array.dtype != np.uint8:
        raise DataError(f"{where} must be uint8 images in 0..255, not {_describe(array)}")
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
