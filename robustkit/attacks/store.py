"""What has been computed once, on disk: tensors by what they depend on, with their checksum.

Adversarials, what nets say of them and how gradients lie to each other are all kept here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as pack
from torch import Tensor

from robustkit.runs import atomic_path

FORMAT = 1
SMALL = 2**20  # bytes of what is kept in memory besides
_NOTES = "robustkit_store"

Tensors = dict[str, Tensor]
Origin = Mapping[str, Any]


class Store:
    """A folder of results; `None` keeps small ones in memory only.

    Whatever cannot be what its name says (cut short, bits flipped, of another model) is computed
    anew and said in `notes`, one line each. `hits` and `misses` count what was asked for.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.hits = self.misses = 0
        self.notes: list[str] = []
        self._small: dict[str, Tensors] = {}

    def fetch(self, kind: str, origin: Origin, make: Callable[[], Tensors]) -> Tensors:
        """The tensors that depend on `origin` (JSON values) alone: those kept, or made and kept."""
        path, name = self.path(kind, origin), f"{kind}-{key(origin)}"
        if name in self._small:
            self.hits += 1
            return self._small[name]
        if path is not None and path.is_file():
            kept = _read(path, origin)
            if not isinstance(kept, str):
                self.hits += 1
                return self._remember(name, kept)
            self.notes.append(f"{path}: {kept}; computed anew")
        self.misses += 1
        made = make()
        if path is not None and path.exists() and not path.is_file():
            self.notes.append(f"{path}: not a file, so this is not kept")
        elif path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path, made, origin)
        return self._remember(name, made)

    def _remember(self, name: str, tensors: Tensors) -> Tensors:
        if sum(value.nbytes for value in tensors.values()) <= SMALL:
            self._small[name] = tensors
        return tensors

    def path(self, kind: str, origin: Origin) -> Path | None:
        """Where what depends on `origin` is, or would be, kept."""
        return None if self.folder is None else self.folder / f"{kind}-{key(origin)}.safetensors"


def key(origin: Origin) -> str:
    """32 hexadecimal digits for what `origin` says."""
    return hashlib.sha256(_written(origin).encode()).hexdigest()[:32]


def write(path: Path, tensors: Tensors, origin: Origin) -> None:
    """Write tensors with their origin and checksum, whole or not at all."""
    plain = {name: value.contiguous() for name, value in tensors.items()}
    notes = {"format": FORMAT, "origin": origin, "sha256": checksum(plain)}
    with atomic_path(path) as temporary:
        temporary.write_bytes(pack(plain, metadata={_NOTES: json.dumps(notes)}))


def read(path: Path) -> tuple[Tensors, dict[str, Any]]:
    """Tensors and origin of a file; raises `ValueError` saying what is wrong with it."""
    try:
        with safe_open(path, framework="pt") as file:
            notes = json.loads((file.metadata() or {})[_NOTES])
            found, origin, expected = notes["format"], notes["origin"], notes["sha256"]
            if found != FORMAT:
                raise ValueError(f"of format {found}, this version reads {FORMAT}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError, OSError) as error:
        raise ValueError(f"damaged ({str(error).splitlines()[0]})") from None
    if checksum(tensors) != expected:
        raise ValueError("damaged (its checksum is not its content's)")
    return tensors, origin


def _read(path: Path, origin: Origin) -> Tensors | str:
    """The tensors, or why they cannot be used."""
    try:
        tensors, found = read(path)
    except ValueError as error:
        return str(error)
    if _written(found) != _written(origin):
        return "of another model, data or attack than its name says"
    return tensors


def checksum(tensors: Tensors) -> str:
    """SHA-256 over names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].contiguous().cpu()
        digest.update(f"{name} {value.dtype} {list(value.shape)};".encode())
        digest.update(value.flatten().numpy().data.cast("B") if value.numel() else b"")
    return digest.hexdigest()


def _written(origin: Origin) -> str:
    return json.dumps(origin, sort_keys=True)
