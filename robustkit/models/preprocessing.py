"""What a model does with a picture of the pixel space before its own first layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.errors import ConfigError, ModelError, did_you_mean
from robustkit.geometry import Geometry, Size, check_interpolation, check_size
from robustkit.reading import Json

CHANNEL_ORDERS = ("rgb", "bgr")
# PIL's filters as differentiable ones of torch; all but "nearest" and "area" with antialiasing.
_MODES = {
    "nearest": "nearest-exact",
    "bilinear": "bilinear",
    "hamming": "bilinear",
    "bicubic": "bicubic",
    "lanczos": "bicubic",
    "box": "area",
}


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How a model makes its net's input of pictures (N,C,H,W) in [0,1].

    `input_size` is the (height, width) its net takes, None: any. Pictures of another size are
    resized to it by `interpolation` (a filter of PIL; "lanczos" and "hamming" by torch's nearest
    relative), or refused where that is None. `mean` and `std`, one number per channel or none at
    all, normalise; `channel_order` "bgr" turns the channels round first. `geometry` is how the
    model's own pipeline gets from a picture file to the pixel space; it is advice to whoever reads
    pictures and changes nothing of what the model computes. Raises `ModelError` naming the entry
    that does not fit.
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    input_size: Size | None = None
    interpolation: str | None = "bilinear"
    channel_order: str = "rgb"
    geometry: Geometry | None = None

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std):
            raise ModelError(
                f"preprocessing: {len(self.mean)} means and {len(self.std)} standard deviations"
            )
        for name in ("mean", "std"):
            values = getattr(self, name)
            if not all(isinstance(value, int | float) and _is_finite(value) for value in values):
                raise ModelError(f"preprocessing: {name} must be finite numbers, not {values}")
        if self.std and min(self.std) <= 0:
            raise ModelError(f"preprocessing: std must be positive, not {self.std}")
        try:
            if self.input_size is not None:
                check_size("input_size", self.input_size)
            if self.interpolation is not None:
                check_interpolation(self.interpolation)
        except ConfigError as error:
            raise ModelError(f"preprocessing: {error}") from None
        if self.channel_order not in CHANNEL_ORDERS:
            raise ModelError(
                f"preprocessing: unknown channel_order '{self.channel_order}'"
                f"{did_you_mean(str(self.channel_order), CHANNEL_ORDERS)}"
            )

    def resizes(self, size: Size) -> bool:
        """Return whether pictures of (height, width) `size` are resized inside the model."""
        return self.input_size is not None and self.input_size != size

    def describe(self) -> str:
        """Describe in a few words what happens inside the model, for output and report."""
        parts = []
        if self.input_size is not None:
            parts.append(f"input {self.input_size[0]}x{self.input_size[1]}")
        if self.channel_order != "rgb":
            parts.append(self.channel_order)
        if self.mean:
            parts.append(f"mean {_listed(self.mean)}, std {_listed(self.std)}")
        else:
            parts.append("pictures in [0,1] as they are")
        return ", ".join(parts)

    def to_dict(self) -> Json:
        """Return plain values for a card."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: Any) -> Preprocessing:
        """Return the inverse of `to_dict`, also of what JSON made of it; raises `ModelError`."""
        names = {"mean", "std", "input_size", "interpolation", "channel_order", "geometry"}
        if not isinstance(plain, Mapping) or plain.keys() != names:
            raise ModelError(f"preprocessing: needs exactly {', '.join(sorted(names))}")
        values = dict(plain)
        for name in ("mean", "std"):
            if not isinstance(values[name], list | tuple):
                raise ModelError(f"preprocessing: {name} must be a list, not {values[name]!r}")
        try:
            geometry = values["geometry"]
            values["geometry"] = None if geometry is None else Geometry.from_dict(geometry)
        except ConfigError as error:
            raise ModelError(f"preprocessing: {error}") from None
        tupled: Json = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        return cls(**tupled)


class Preprocess(nn.Module):
    """A `Preprocessing` as a layer without weights, differentiable and linear in the picture."""

    mean: Tensor
    std: Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.preprocessing = preprocessing
        if preprocessing.mean:
            self.register_buffer("mean", _column(preprocessing.mean), persistent=False)
            self.register_buffer("std", _column(preprocessing.std), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The net's input (N,C,h,w) of pictures (N,C,H,W); grey ones become as many channels as
        are normalised."""
        preprocessing = self.preprocessing
        # Without an interpolation shapes are fixed, and nothing here asks for them: a net that is
        # traced symbolically may hold this layer.
        filtered, size = preprocessing.interpolation, preprocessing.input_size
        if filtered is not None and size is not None and tuple(x.shape[2:]) != size:
            x = resized(x, size, filtered)
        if preprocessing.channel_order == "bgr":
            x = x.flip(1)
        if not preprocessing.mean:
            return x
        if (
            len(preprocessing.mean) > 1
            and preprocessing.interpolation is not None
            and x.shape[1] == 1
        ):
            x = x.expand(-1, len(preprocessing.mean), -1, -1)
        return (x - self.mean) / self.std


class Normalise(Preprocess):
    """(x - mean) / std per channel, for images (N,C,H,W) in [0,1]."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__(Preprocessing(mean=tuple(mean), std=tuple(std)))


def resized(x: Tensor, size: Size, interpolation: str) -> Tensor:
    """Return pictures (N,C,H,W) as (N,C,*size) by one of PIL's filters, with its antialiasing."""
    mode = _MODES[interpolation]
    antialias = mode in ("bilinear", "bicubic")
    return F.interpolate(x, size=size, mode=mode, antialias=antialias)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _listed(values: Sequence[float]) -> str:
    return "/".join(f"{value:.3g}" for value in dict.fromkeys(values))


def _column(values: Sequence[float]) -> Tensor:
    """Return float32 (C,1,1); cards may tell whole numbers."""
    return torch.tensor([float(value) for value in values]).view(-1, 1, 1)
