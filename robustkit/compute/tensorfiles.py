"""Safetensors files with JSON notes beside the tensors: written whole, read and checked.

A file may be written row by row and mapped from the disk, where memory would not do.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as pack
from torch import Tensor

from robustkit.errors import RobustkitError, RunError
from robustkit.reading import check_regular, open_bounded, parse_json, printable
from robustkit.runs import atomic_path

LARGEST = 4 * 2**30
"""Bytes of a file whose tensors are read into memory."""
SMALL_RUN = 2**20
"""Bytes up to which a tensor is read rather than mapped."""

Shapes = Mapping[str, tuple[torch.dtype, tuple[str | int, ...]]]
"""By the tensors' names: their type, and their lengths as numbers or as letters; one letter stands
for the same length wherever it is named."""

# The format's names of types, and numpy's. Others are not written row by row.
_TYPES: dict[str, tuple[torch.dtype, type[np.generic]]] = {
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
_LENGTH = 8  # bytes that hold the length of the header


class Digest(Protocol):
    """A hash object of `hashlib`."""

    def update(self, data: Any, /) -> None:
        """Add these bytes."""

    def hexdigest(self) -> str:
        """Return the digest of all bytes so far."""


def packed(tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> bytes:
    """Return a safetensors file of `tensors` and `notes`, the same bytes in every process.

    The library's own header lists notes in another order each time.
    """
    content = pack(dict(tensors), metadata=dict(notes))
    size = int.from_bytes(content[:_LENGTH], "little")
    header = json.loads(content[_LENGTH : _LENGTH + size])
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    return _with_length(text) + content[_LENGTH + size :]


def write_tensors(
    path: Path | str, tensors: Mapping[str, Tensor], notes: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Write `tensors`, contiguous and on the CPU, with `notes`: whole or not at all.

    Raises `RunError` when the file cannot be written.
    """
    with atomic_path(path) as temporary:
        # Written by python, not by safetensors, so that a full disk is an OSError.
        temporary.write_bytes(packed(tensors, notes))


def write_rows(
    path: Path,
    name: str,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    rows: Iterable[Tensor],
    digest: Digest,
    notes: Callable[[str], Mapping[str, str]],
) -> None:
    """Write one tensor, whole or not at all, as its `rows` (n,...) come; its digest into the notes.

    `notes(hexdigest)` is the header's metadata; its length must not depend on the digest. `digest`
    is updated with the tensor's bytes. Raises `ValueError` where the rows do not match `shape` and
    `dtype`, `RunError` when the file cannot be written.
    """
    size = dtype.itemsize * int(np.prod(shape))
    about = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [0, size]}

    def header(hexdigest: str) -> bytes:
        return _with_length(json.dumps({"__metadata__": notes(hexdigest), name: about}).encode())

    written = 0
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(header("0" * len(digest.hexdigest())))
        for batch in rows:
            if batch.dtype != dtype or batch.shape[1:] != shape[1:]:
                raise ValueError(f"rows of {batch.dtype} {tuple(batch.shape)} in {dtype} {shape}")
            content = batch.contiguous().flatten().view(torch.uint8).numpy().data
            digest.update(content)
            file.write(content)
            written += len(content)
        if written != size:
            raise ValueError(f"{written} bytes of rows, where {dtype} {shape} has {size}")
        file.seek(0)
        file.write(header(digest.hexdigest()))


def read_notes(
    path: Path,
    *,
    error: type[RobustkitError],
    follow: bool = True,
    damaged: Callable[[str], Exception] | None = None,
) -> dict[str, str]:
    """Return the notes of a safetensors file; no tensor is read.

    Raises `error`, naming the file, for one that is missing or no regular file, without `follow`
    also for a link; for a damaged file it raises `damaged(reason)`, by default `error` as well.
    """
    check_regular(path, error=error, follow=follow)
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as failure:
        raise _damaged(path, failure, error, damaged) from None


def read_tensors(
    path: Path,
    *,
    error: type[RobustkitError],
    hint: str = "",
    follow: bool = False,
    limit: int = LARGEST,
    damaged: Callable[[str], Exception] | None = None,
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return all tensors of a safetensors file, and its notes.

    Raises as `read_notes` does, and `error` for a file of more than `limit` bytes; `hint` ends the
    line about a damaged file.
    """
    check_regular(path, error=error, limit=limit, follow=follow)
    try:
        with safe_open(path, framework="pt") as file:
            notes = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as failure:
        raise _damaged(path, failure, error, damaged, hint) from None
    return tensors, notes


def mapped_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file that is known to be whole; large ones are mapped, read-only.

    Raises `KeyError` for a type that `write_rows` does not write, `RunError` for another file.
    """
    with open_bounded(path, error=RunError) as file:
        length = int.from_bytes(file.read(_LENGTH), "little")
        header = parse_json(file.read(length), str(path), error=RunError)
    header.pop("__metadata__", None)
    return {
        name: _mapped(path, _LENGTH + length + about["data_offsets"][0], about)
        for name, about in header.items()
    }


def read_only(array: NDArray[Any]) -> Tensor:
    """Return a tensor on the memory of `array`, which need not be writable.

    Whoever writes into it writes into `array`, or is stopped by the system where that is mapped.
    """
    with warnings.catch_warnings():
        # A writable private map would be charged against memory, which is what is short.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 (hex) of names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].contiguous().cpu()
        digest.update(described(name, value.dtype, value.shape))
        if value.numel():
            # As bytes first: numpy does not know every type that weights have.
            digest.update(value.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def described(name: str, dtype: torch.dtype, shape: Iterable[int]) -> bytes:
    """Return what `checksum` hashes of a tensor before its bytes."""
    return f"{name} {dtype} {list(shape)};".encode()


def check_shapes(
    tensors: Mapping[str, Tensor],
    shapes: Shapes,
    where: str,
    *,
    error: type[RobustkitError],
    known: Mapping[str, int] | None = None,
    finite: bool = True,
) -> dict[str, int]:
    """Check that `tensors` are those that `shapes` names and, by default, of finite numbers.

    Returns the length that each letter stands for; `known` fixes some of them. Raises `error`,
    which begins with `where` and names the tensor.
    """
    lengths = dict(known or {})
    for name, (dtype, wanted) in shapes.items():
        if name not in tensors:
            raise error(f"{where}: '{name}' is missing")
        tensor = tensors[name]
        fits = tensor.dtype == dtype and tensor.dim() == len(wanted)
        for length, expected in zip(tensor.shape, wanted, strict=False):
            fixed = lengths.setdefault(expected, length) if isinstance(expected, str) else expected
            fits = fits and fixed == length
        if not fits:
            sizes = ", ".join(str(lengths.get(x, x) if isinstance(x, str) else x) for x in wanted)
            raise error(
                f"{where}: '{name}' is {_spelt(tensor.dtype)} {tuple(tensor.shape)}, not "
                f"{_spelt(dtype)} ({sizes})"
            )
        if finite and dtype.is_floating_point and not bool(torch.isfinite(tensor).all()):
            raise error(f"{where}: '{name}' holds numbers that are not finite")
    return lengths


def check_range(
    tensor: Tensor, low: int, high: int, where: str, *, error: type[RobustkitError]
) -> None:
    """Check that whole numbers are from `low` to below `high`; raises `error`, naming `where`."""
    if tensor.numel() and not low <= int(tensor.min()) <= int(tensor.max()) < high:
        raise error(f"{where}: numbers that are not from {low} to {high - 1}")


def _with_length(header: bytes) -> bytes:
    header += b" " * (-len(header) % 8)  # as the format wants tensors aligned
    return len(header).to_bytes(_LENGTH, "little") + header


def _mapped(path: Path, offset: int, about: Mapping[str, Any]) -> Tensor:
    dtype, kind = _TYPES[about["dtype"]]
    shape = tuple(about["shape"])
    size = int(np.prod(shape)) * dtype.itemsize
    if size > SMALL_RUN:
        return read_only(np.memmap(path, kind, "r", offset, shape))
    with open_bounded(path, error=RunError) as file:
        file.seek(offset)
        content = bytearray(file.read(size))
    if not content:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(content, dtype=dtype).view(shape)


def _damaged(
    path: Path,
    failure: Exception,
    error: type[RobustkitError],
    damaged: Callable[[str], Exception] | None,
    hint: str = "",
) -> Exception:
    reason = printable(" ".join(str(failure).split()))
    if damaged is not None:
        return damaged(reason)
    return error(f"{path}: damaged, or not a safetensors file ({reason}){hint}")


def _spelt(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
