"""The way from a picture of any size to the pixel space, and from one size to another inside a net.

Data and models both speak of it and do not know each other, so it lies below both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from robustkit.errors import ConfigError, did_you_mean

# The names that PIL and torchvision give their filters.
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
LARGEST = 4096  # pixels; beyond, a size is a slip of the finger

Size = tuple[int, int]


@dataclass(frozen=True)
class Geometry:
    """How a picture becomes (`size` = (height, width)) pixels: resized, then cropped at its centre.

    `resize` is the length in pixels of the shorter side (the aspect is kept), or (height, width)
    of the whole picture (it is not), or None: cropped as it is. `interpolation` is one of PIL's
    filters, applied with antialiasing. What is smaller than the crop is padded with black. Raises
    `ConfigError`.

    >>> Geometry((224, 224), 256, "bicubic").describe()
    'shorter side to 256 (bicubic), centre crop to 224x224'
    """

    size: Size
    resize: int | Size | None = None
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        check_size("size", self.size)
        if isinstance(self.resize, tuple):
            check_size("resize", self.resize)
        elif self.resize is not None:
            check_size("resize", (self.resize, self.resize))
        check_interpolation(self.interpolation)

    def describe(self) -> str:
        """Return the geometry in a few words, for output and report."""
        crop = f"centre crop to {self.size[0]}x{self.size[1]}"
        if self.resize is None:
            return crop
        if isinstance(self.resize, tuple):
            whole = f"all to {self.resize[0]}x{self.resize[1]} ({self.interpolation})"
            return whole if self.resize == self.size else f"{whole}, {crop}"
        return f"shorter side to {self.resize} ({self.interpolation}), {crop}"

    def to_dict(self) -> dict[str, object]:
        """Return plain values for a card or a summary."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Geometry:
        """Return the inverse of `to_dict`, also of what JSON made of it; raises `ConfigError`."""
        if not isinstance(plain, Mapping) or plain.keys() != {"size", "resize", "interpolation"}:
            raise ConfigError("geometry: needs exactly size, resize and interpolation")
        resize = plain["resize"]
        return cls(
            _pair(plain["size"]),
            _pair(resize) if isinstance(resize, list | tuple) else resize,
            plain["interpolation"],
        )


def check_size(name: str, size: object) -> None:
    """Raise `ConfigError` unless `size` is (height, width), whole numbers from 1 to `LARGEST`."""
    if (
        not isinstance(size, tuple)
        or len(size) != 2
        or not all(type(item) is int and 1 <= item <= LARGEST for item in size)
    ):
        raise ConfigError(
            f"{name} must be (height, width) in pixels, each from 1 to {LARGEST}, not {size}"
        )


def check_interpolation(name: object) -> None:
    """Raise `ConfigError` unless `name` is one of `INTERPOLATIONS`."""
    if name not in INTERPOLATIONS:
        raise ConfigError(
            f"unknown interpolation '{name}'{did_you_mean(str(name), INTERPOLATIONS)}"
        )


def _pair(values: Any) -> Size:
    if not isinstance(values, list | tuple) or len(values) != 2:
        raise ConfigError(f"geometry: expected (height, width), not {values!r}")
    return values[0], values[1]
