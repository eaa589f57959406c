"""A store on the disk of what is expensive: adversarial sets, predictions, gradients."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from robustkit.compute.tensorfiles import (
    checksum,
    described,
    mapped_tensors,
    read_notes,
    write_rows,
    write_tensors,
)
from robustkit.errors import RunError
from robustkit.reading import parse_json

FORMAT = 1
SMALL = 2**20  # bytes of what is kept in memory besides
# Bytes of sets that a computation without a folder keeps in memory; more goes to a temporary one.
SMALL_SETS = 16 * 2**20
_NOTES = "robustkit_store"

Tensors = dict[str, Tensor]
Origin = Mapping[str, Any]
Fault = Callable[[Tensors], str | None]  # what is wrong with tensors, None for nothing


@dataclass(frozen=True)
class Rows:
    """A tensor to be made row by row: its whole `shape`, its `dtype`, and what makes it.

    `make` yields consecutive batches (n,...) on the CPU, N rows in all.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    make: Callable[[], Iterable[Tensor]]

    @property
    def nbytes(self) -> int:
        """The bytes of the whole tensor."""
        return prod(self.shape) * self.dtype.itemsize


class Store:
    """A folder of results; `None` keeps small ones in memory only.

    Whatever cannot be what its name says (cut short, bits flipped, of another model) is computed
    anew and said in `notes`, one line each. `hits` and `misses` count what was asked for. What a
    folder `beside` holds is taken from there, and nothing is written to it.
    """

    def __init__(self, folder: Path | None, beside: Path | None = None) -> None:
        self.folder, self._beside = folder, beside
        self.hits = self.misses = 0
        self.notes: list[str] = []
        self._small: dict[str, Tensors] = {}

    def fetch(
        self,
        kind: str,
        origin: Origin,
        make: Callable[[], Tensors],
        fault: Fault | None = None,
    ) -> Tensors:
        """Return the tensors that depend on `origin` (JSON values) alone: kept ones or new ones.

        Kept ones are made anew, too, where `fault` says what is wrong with them: a checksum is no
        proof of who wrote a file.
        """
        path, name = self.path(kind, origin), f"{kind}-{key(origin)}"
        if name in self._small:
            self.hits += 1
            return self._small[name]
        if (kept := self._kept(kind, origin, fault)) is not None:
            self.hits += 1
            return self._remember(name, kept)
        self.misses += 1
        tensors = make()
        if (path := self._writable(path)) is not None:
            write(path, tensors, origin)
        return self._remember(name, tensors)

    def fetch_rows(
        self,
        kind: str,
        origin: Origin,
        name: str,
        rows: Rows,
        fault: Callable[[Tensor], str | None] | None = None,
    ) -> Tensor:
        """As `fetch`, for one tensor `name` that may be larger than memory.

        It is written batch by batch, and mapped from its file: whoever writes into it is stopped by
        the system. Without a folder it is in memory.
        """

        def unfit(kept: Tensors) -> str | None:
            tensor = kept.get(name)
            if tensor is None or tensor.shape != rows.shape or tensor.dtype != rows.dtype:
                return f"not {rows.dtype} {rows.shape}"
            return None if fault is None else fault(tensor)

        if rows.nbytes <= SMALL:
            return self.fetch(kind, origin, lambda: {name: _collect(rows)}, unfit)[name]
        path = self.path(kind, origin)
        if (kept := self._kept(kind, origin, unfit)) is not None:
            self.hits += 1
            return kept[name]
        self.misses += 1
        if (path := self._writable(path)) is None:
            return _collect(rows)
        _stream(path, name, rows, origin)
        return mapped_tensors(path)[name]

    @contextmanager
    def with_space_for(self, size: int) -> Iterator[Store]:
        """Yield a store for sets of `size` bytes in all: this one, or a temporary one on the disk.

        The latter where this one has no folder and the sets would not be small in memory; it is
        removed on leaving. Hits, misses and notes are this one's.
        """
        if self.folder is not None or size <= SMALL_SETS:
            yield self
            return
        with TemporaryDirectory(prefix="robustkit-") as scratch:
            other = Store(Path(scratch))
            other.notes = self.notes
            try:
                yield other
            finally:
                self.hits, self.misses = self.hits + other.hits, self.misses + other.misses

    def _kept(self, kind: str, origin: Origin, fault: Fault | None) -> Tensors | None:
        """Return the kept tensors of this origin if the file is sound, else note what is wrong."""
        for folder in (self.folder, self._beside):
            path = None if folder is None else folder / _file_name(kind, origin)
            if path is None or not path.is_file():
                continue
            kept = _read(path, origin, fault)
            if not isinstance(kept, str):
                return kept
            self.notes.append(f"{path}: {kept}; computed anew")
        return None

    def _writable(self, path: Path | None) -> Path | None:
        """Return `path` with its folder made, or None where nothing can be kept."""
        if path is not None and path.exists() and not path.is_file():
            self.notes.append(f"{path}: not a file, so this is not kept")
            return None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _remember(self, name: str, tensors: Tensors) -> Tensors:
        if sum(value.nbytes for value in tensors.values()) <= SMALL:
            self._small[name] = tensors
        return tensors

    def path(self, kind: str, origin: Origin) -> Path | None:
        """Return the path of the file for `origin`, existing or not; None without a folder."""
        return None if self.folder is None else self.folder / _file_name(kind, origin)


def key(origin: Origin) -> str:
    """Return 32 hexadecimal digits that identify `origin`."""
    return hashlib.sha256(_written(origin).encode()).hexdigest()[:32]


def _file_name(kind: str, origin: Origin) -> str:
    return f"{kind}-{key(origin)}.safetensors"


def write(path: Path, tensors: Tensors, origin: Origin) -> None:
    """Write tensors with their origin and checksum, whole or not at all."""
    plain = {name: value.contiguous() for name, value in tensors.items()}
    notes = {"format": FORMAT, "origin": origin, "sha256": checksum(plain)}
    write_tensors(path, plain, {_NOTES: json.dumps(notes)})


def _stream(path: Path, name: str, rows: Rows, origin: Origin) -> None:
    """Write one tensor as `write` does, without ever having it in memory."""
    digest = hashlib.sha256(described(name, rows.dtype, rows.shape))

    def notes(sha256: str) -> dict[str, str]:
        return {_NOTES: json.dumps({"format": FORMAT, "origin": origin, "sha256": sha256})}

    write_rows(path, name, rows.shape, rows.dtype, rows.make(), digest, notes)


def _collect(rows: Rows) -> Tensor:
    tensor = torch.empty(rows.shape, dtype=rows.dtype)
    start = 0
    for batch in rows.make():
        tensor[start : start + len(batch)] = batch
        start += len(batch)
    return tensor


def read(path: Path) -> tuple[Tensors, Origin]:
    """Return tensors and origin of a file; raises `ValueError` saying what is wrong with it.

    Large tensors are mapped, not read: they can be looked at only.
    """
    try:
        written = read_notes(path, error=RunError, damaged=RunError)
        notes = parse_json(written[_NOTES], "its notes", error=RunError)
        version, origin, expected = notes["format"], notes["origin"], notes["sha256"]
        if version != FORMAT:
            raise ValueError(f"of format {version}, this version reads {FORMAT}")
        # The library has found the file whole.
        tensors = mapped_tensors(path)
    except (RunError, KeyError, TypeError, OSError, MemoryError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"damaged ({reason})") from None
    if checksum(tensors) != expected:
        raise ValueError("damaged (its checksum is not its content's)")
    return tensors, origin


def _read(path: Path, origin: Origin, fault: Fault | None) -> Tensors | str:
    """Return the tensors, or the reason why they cannot be used."""
    try:
        tensors, written_for = read(path)
    except ValueError as error:
        return str(error)
    if _written(written_for) != _written(origin):
        return "of another model, data or attack than its name says"
    wrong = None if fault is None else fault(tensors)
    return tensors if wrong is None else wrong


def _written(origin: Origin) -> str:
    return json.dumps(origin, sort_keys=True)
