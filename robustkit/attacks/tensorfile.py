"""Safetensors files written row by row and mapped from the disk, where memory would not do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from robustkit.data import read_only
from robustkit.errors import RunError
from robustkit.reading import open_bounded, parse_json

SMALL = 2**20  # bytes up to which a tensor is read rather than mapped
# The format's names of types, and numpy's. Others are not written here.
_TYPES: dict[str, tuple[torch.dtype, Any]] = {
    "BOOL": (torch.bool, np.bool_),
    "U8": (torch.uint8, np.uint8),
    "I8": (torch.int8, np.int8),
    "I16": (torch.int16, np.int16),
    "I32": (torch.int32, np.int32),
    "I64": (torch.int64, np.int64),
    "F16": (torch.float16, np.float16),
    "F32": (torch.float32, np.float32),
    "F64": (torch.float64, np.float64),
}
_NAMES = {dtype: name for name, (dtype, _) in _TYPES.items()}
_LENGTH = 8  # bytes that say how long the header is


class Digest(Protocol):
    """What `hashlib` makes."""

    def update(self, data: Any, /) -> None:
        """Go on with these bytes."""

    def hexdigest(self) -> str:
        """The digest so far, as text."""


def write_rows(
    path: Path,
    name: str,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    rows: Iterable[Tensor],
    digest: Digest,
    notes: Callable[[str], Mapping[str, str]],
) -> None:
    """Write one tensor to a new file as its `rows` (n,...) come, and its digest into the header.

    `notes(hexdigest)` is the header's metadata; its length must not depend on the digest. `digest`
    is updated with the tensor's bytes. Raises `ValueError` where the rows are not what `shape` and
    `dtype` say.
    """
    size = dtype.itemsize * int(np.prod(shape))
    about = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [0, size]}

    def header(hexdigest: str) -> bytes:
        text = json.dumps({"__metadata__": notes(hexdigest), name: about}).encode()
        text += b" " * (-len(text) % 8)  # as the format wants tensors aligned
        return len(text).to_bytes(_LENGTH, "little") + text

    blank = header("0" * len(digest.hexdigest()))
    written = 0
    with path.open("wb") as file:
        file.write(blank)
        for part in rows:
            if part.dtype != dtype or part.shape[1:] != shape[1:]:
                raise ValueError(f"rows of {part.dtype} {tuple(part.shape)} in {dtype} {shape}")
            content = part.contiguous().flatten().view(torch.uint8).numpy().data
            digest.update(content)
            file.write(content)
            written += len(content)
        if written != size:
            raise ValueError(f"{written} bytes of rows, where {dtype} {shape} has {size}")
        file.seek(0)
        file.write(header(digest.hexdigest()))


def mapped_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file that is known to be whole; large ones mapped, read-only.

    Raises `KeyError` for a type that is not written here, `RunError` for what is no such file.
    """
    with open_bounded(path, error=RunError) as file:
        length = int.from_bytes(file.read(_LENGTH), "little")
        header = parse_json(file.read(length), str(path), error=RunError)
    header.pop("__metadata__", None)
    return {
        name: _mapped(path, _LENGTH + length + about["data_offsets"][0], about)
        for name, about in header.items()
    }


def _mapped(path: Path, offset: int, about: Mapping[str, Any]) -> Tensor:
    dtype, kind = _TYPES[about["dtype"]]
    shape = tuple(about["shape"])
    size = int(np.prod(shape)) * dtype.itemsize
    if size > SMALL:
        return read_only(np.memmap(path, kind, "r", offset, shape))
    with open_bounded(path, error=RunError) as file:
        file.seek(offset)
        content = bytearray(file.read(size))
    if not content:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(content, dtype=dtype).view(shape)
