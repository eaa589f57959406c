"""What a data source is, and the dict of those known by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from robustkit.data.pictures import Pictures
from robustkit.errors import ConfigError, DataError, did_you_mean
from robustkit.geometry import Geometry, Size
from robustkit.registry import Registry
from robustkit.specs import shortened, split_options

PARTS = ("train", "val", "test")
KIND = {"train": "training", "val": "validation", "test": "test"}


@dataclass(frozen=True, eq=False)
class Part:
    """Images of which the labels are known and the pixels are read when asked for.

    `labels` int64 (N,); `tracks` int64 (N,) or None. Splits and samples are decided on labels
    alone, so nothing is decoded without need.
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
        """Return the parts that are there, by their names."""
        parts_ = {name: getattr(self, name) for name in PARTS}
        return {name: part for name, part in parts_.items() if part is not None}


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


GEOMETRY_OPTIONS = ("size", "resize", "interpolation")
STRETCH = "stretch"  # the whole picture to `size`: its aspect is lost


@dataclass(frozen=True)
class Spec:
    """A spec taken apart: the source's name, its path ("" where there is none), its options."""

    text: str
    name: str
    path: str
    options: Mapping[str, str]

    @property
    def has_path(self) -> bool:
        """Whether a colon follows the name."""
        return ":" in self.text.partition("?")[0]


def parse_spec(text: str) -> Spec:
    """Take `SOURCE[:PATH][?key=value&key=value]` apart; the first `?` starts the options.

    Raises DataError for an option without a value, or given twice.

    >>> parse_spec("folder:photos?size=224&interpolation=bicubic").options
    {'size': '224', 'interpolation': 'bicubic'}
    """
    head, options = split_options(text, DataError)
    name, _, path = head.partition(":")
    return Spec(text, name, path, options)


def check_options(spec: Spec, known: Iterable[str]) -> None:
    """Raise DataError for an option of `spec` that is not among the `known` ones."""
    known = tuple(known)
    for key in spec.options:
        if not known:
            raise DataError(
                f"'{spec.name}' takes no options, so '{shortened(spec.text)}' cannot be"
            )
        if key not in known:
            raise DataError(
                f"{shortened(spec.text)}: unknown option '{key}'{did_you_mean(key, known)}"
            )


def geometry_of(spec: Spec) -> Geometry | None:
    """Return the geometry that `size`, `resize` and `interpolation` ask for, None without them.

    `size=224` or `size=HxW` is the crop's height and width; `resize=256` the length of the shorter
    side, `resize=HxW` the whole picture's, `resize=stretch` the crop's own. Without `resize` the
    shorter side gets the length of the crop's longer one. Raises DataError.
    """
    given = {key: spec.options[key] for key in GEOMETRY_OPTIONS if key in spec.options}
    try:
        return _geometry(given) if given else None
    except (ConfigError, DataError) as error:
        raise DataError(f"{shortened(spec.text)}: {error}") from error


def _geometry(given: Mapping[str, str]) -> Geometry:
    if "size" not in given:
        raise DataError(f"'{next(iter(given))}' needs a size beside it: write size=224 or size=HxW")
    size = _size("size", given["size"])
    resize_text = given.get("resize")
    resize: int | Size = max(size)
    if resize_text == STRETCH:
        resize = size
    elif resize_text is not None:
        resize = int(resize_text) if _is_length(resize_text) else _size("resize", resize_text)
    return Geometry(size, resize, given.get("interpolation", "bilinear"))


def _size(name: str, text: str) -> Size:
    """Return (height, width) of "224" or "192x256"."""
    height, times, width = text.partition("x")
    if not times:
        width = height
    if not (_is_length(height) and _is_length(width)):
        more = f", a shorter side or {STRETCH}" if name == "resize" else ""
        raise DataError(
            f"{name}={shortened(text)} is no size in pixels; write {name}=224 or {name}=HxW{more}"
        )
    return int(height), int(width)


def _is_length(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 9
