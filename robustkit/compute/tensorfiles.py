"""Small safetensors files of a run, read and compared with the shapes that they must have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as pack
from torch import Tensor

from robustkit.errors import RobustkitError
from robustkit.reading import check_regular, printable

LARGEST = 4 * 2**30
"""Bytes of such a file."""

Shapes = Mapping[str, tuple[torch.dtype, tuple[str | int, ...]]]
"""By the tensors' names: their type, and their lengths as numbers or as letters; one letter stands
for the same length wherever it is named."""


def packed(tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> bytes:
    """Return a safetensors file of `tensors` and `notes`, the same bytes in every process.

    The library's own header lists notes in another order each time.
    """
    made = pack(dict(tensors), metadata=dict(notes))
    size = int.from_bytes(made[:8], "little")
    header = json.dumps(json.loads(made[8 : 8 + size]), sort_keys=True, separators=(",", ":"))
    text = header.encode()
    text += b" " * (-len(text) % 8)  # as the format wants tensors aligned
    return len(text).to_bytes(8, "little") + text + made[8 + size :]


def read_tensors(
    path: Path, *, error: type[RobustkitError], hint: str = "", follow: bool = False
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return all tensors of a safetensors file, and its notes.

    Raises `error`, naming the file and ending in `hint`, for one that is missing, no regular file,
    too large, or damaged; without `follow` also for a link.
    """
    check_regular(path, error=error, limit=LARGEST, follow=follow)
    try:
        with safe_open(path, framework="pt") as file:
            notes = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as failure:
        told = printable(" ".join(str(failure).split()))
        raise error(f"{path}: damaged, or not a safetensors file ({told}){hint}") from None
    return tensors, notes


def check_shapes(
    tensors: Mapping[str, Tensor],
    shapes: Shapes,
    where: str,
    *,
    error: type[RobustkitError],
    known: Mapping[str, int] | None = None,
    finite: bool = True,
) -> dict[str, int]:
    """Check that `tensors` are those that `shapes` names, and, if so asked, of finite numbers.

    Returns what each letter stands for; `known` says of some what they must. Raises `error`, which
    begins with `where` and names the tensor.
    """
    lengths = dict(known or {})
    for name, (dtype, wanted) in shapes.items():
        if name not in tensors:
            raise error(f"{where}: '{name}' is missing")
        found = tensors[name]
        fits = found.dtype == dtype and found.dim() == len(wanted)
        for length, expected in zip(found.shape, wanted, strict=False):
            own = lengths.setdefault(expected, length) if isinstance(expected, str) else expected
            fits = fits and own == length
        if not fits:
            told = ", ".join(str(lengths.get(x, x) if isinstance(x, str) else x) for x in wanted)
            raise error(
                f"{where}: '{name}' is {_told(found.dtype)} {tuple(found.shape)}, not "
                f"{_told(dtype)} ({told})"
            )
        if finite and dtype.is_floating_point and not bool(torch.isfinite(found).all()):
            raise error(f"{where}: '{name}' holds numbers that are not finite")
    return lengths


def check_range(
    tensor: Tensor, low: int, high: int, where: str, *, error: type[RobustkitError]
) -> None:
    """Check that whole numbers are from `low` to below `high`; raises `error`, naming `where`."""
    if tensor.numel() and not low <= int(tensor.min()) <= int(tensor.max()) < high:
        raise error(f"{where}: numbers that are not from {low} to {high - 1}")


def _told(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
