"""What a data source is, and the dict of those known by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from robustkit.errors import DataError
from robustkit.registry import Registry


@dataclass(frozen=True, eq=False)
class Part:
    """Images of which the labels are known and the pixels are read when asked for.

    `labels` int64 (N,); `tracks` int64 (N,) or None; `read(indices)` returns uint8 (n,C,H,W).
    Splits are decided on labels alone, so nothing is decoded that no split uses.
    """

    labels: Tensor
    read: Callable[[Tensor], Tensor]
    tracks: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Source:
    """Everything a source offers: what may be trained on, what is tested on, the class names."""

    train: Part
    test: Part
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Request:
    """What the caller of `load` said: the part after the colon, the root, leave to download."""

    name: str
    argument: str
    root: Path | None
    download: bool


@dataclass(frozen=True)
class Entry:
    """A registered reader, and whether its name is followed by a colon and a path."""

    open: Callable[[Request], Source]
    takes_path: bool


SOURCES: Registry[Entry] = Registry("data source", DataError)


def source(
    name: str, *, takes_path: bool = False
) -> Callable[[Callable[[Request], Source]], Callable[[Request], Source]]:
    """Register a reader under `name`; raises ValueError if the name is taken."""

    def add(reader: Callable[[Request], Source]) -> Callable[[Request], Source]:
        SOURCES.enter(name, Entry(reader, takes_path))
        return reader

    return add


def required_root(request: Request) -> Path:
    """Return the data root; raises DataError where none was given."""
    if request.root is None:
        raise DataError(
            f"'{request.name}' needs a data root: set ROBUSTKIT_DATA or give the folder as root"
        )
    return request.root
