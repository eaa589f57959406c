"""What a data source is, and the dict of those known by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from robustkit.data.pictures import Pictures
from robustkit.errors import DataError
from robustkit.geometry import Geometry
from robustkit.registry import Registry

PARTS = ("train", "val", "test")
KIND = {"train": "training", "val": "validation", "test": "test"}


@dataclass(frozen=True, eq=False)
class Part:
    """Images of which the labels are known and the pixels are read when asked for.

    `labels` int64 (N,); `tracks` int64 (N,) or None. Splits and samples are decided on labels
    alone, so nothing is decoded that nobody uses.
    """

    labels: Tensor
    pictures: Pictures
    tracks: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Source:
    """What a source offers: at least one of three parts, and the class names.

    `classes` is None where labels are indices and how many classes there are is not known; `hints`
    are the names that are known for some of them. `geometry` is what the spec's options ask for;
    `notes` are sentences for the user.
    """

    train: Part | None
    test: Part | None
    classes: tuple[str, ...] | None
    val: Part | None = None
    geometry: Geometry | None = None
    hints: Mapping[int, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def parts(self) -> dict[str, Part]:
        """The parts that are there, by their names."""
        found = {name: getattr(self, name) for name in PARTS}
        return {name: part for name, part in found.items() if part is not None}


@dataclass(frozen=True)
class Request:
    """What the caller said: the part after the colon, the root, leave to download, options."""

    name: str
    argument: str
    root: Path | None
    download: bool
    options: Mapping[str, str] = field(default_factory=dict)
    geometry: Geometry | None = None


@dataclass(frozen=True)
class Entry:
    """A registered reader, whether a colon and a path follow its name, and its options."""

    open: Callable[[Request], Source]
    takes_path: bool
    options: tuple[str, ...] = ()


SOURCES: Registry[Entry] = Registry("data source", DataError)


def source(
    name: str, *, takes_path: bool = False, options: tuple[str, ...] = ()
) -> Callable[[Callable[[Request], Source]], Callable[[Request], Source]]:
    """Register a reader under `name`; raises ValueError if the name is taken."""

    def add(reader: Callable[[Request], Source]) -> Callable[[Request], Source]:
        SOURCES.enter(name, Entry(reader, takes_path, options))
        return reader

    return add


def required_root(request: Request) -> Path:
    """Return the data root; raises DataError where none was given."""
    if request.root is None:
        raise DataError(
            f"'{request.name}' needs a data root: set ROBUSTKIT_DATA or give the folder as root"
        )
    return request.root
