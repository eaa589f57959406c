"""What a model file says about itself beside its weights."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from robustkit.errors import ModelError

FORMAT = 1
DETECTOR = "detector"  # the family of cards that the floor of adaptation builds


@dataclass(frozen=True, kw_only=True)
class Card:
    """Everything but the weights that is needed to rebuild a classifier, and where it came from.

    `architecture` is plain JSON with the entry `family`; `classes` are the names of the logits in
    order; `input_shape` is (C, S, S); `mean` and `std` normalise pixels in [0,1], one number per
    channel; `provenance` is whatever the maker wants to be remembered; `parent` is the digest of
    the model this one was made from. Raises `ModelError` naming the entry that does not fit.
    """

    architecture: Mapping[str, Any]
    classes: tuple[str, ...]
    input_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    parent: str | None = None
    format: int = FORMAT

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ModelError(f"model card: format must be {FORMAT}, not {self.format}")
        if not isinstance(self.architecture.get("family"), str):
            raise ModelError("model card: architecture must name its family")
        # Something may be looked for without being told from anything else.
        _check_classes(self.classes, 1 if self.architecture["family"] == DETECTOR else 2)
        _check_shape(self.input_shape)
        _check_statistics("mean", self.mean, self.input_shape[0])
        _check_statistics("std", self.std, self.input_shape[0])
        if min(self.std) <= 0:
            raise ModelError(f"model card: std must be positive, not {self.std}")

    def to_json(self) -> str:
        """The card as one line of JSON with sorted keys; NaN and infinities raise `ValueError`."""
        return json.dumps(asdict(self), sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Card:
        """The inverse of `to_json`; raises `ModelError`, also for a card of a newer format."""
        try:
            plain = json.loads(text)
        except json.JSONDecodeError as error:
            raise ModelError(f"model card: not JSON ({error})") from None
        if not isinstance(plain, dict):
            raise ModelError("model card: not a JSON object")
        _check_format(plain.get("format"))
        names = {each.name for each in fields(cls)}
        if plain.keys() != names:
            odd = sorted(plain.keys() ^ names)
            raise ModelError(f"model card: missing or unknown entries: {', '.join(odd)}")
        return cls(**{name: _typed(name, value) for name, value in plain.items()})


_TYPES: dict[str, type | tuple[type, ...]] = {
    "architecture": dict,
    "classes": list,
    "input_shape": list,
    "mean": list,
    "std": list,
    "provenance": dict,
    "parent": (str, type(None)),
    "format": int,
}


def _typed(name: str, value: Any) -> Any:
    if not isinstance(value, _TYPES[name]):
        raise ModelError(f"model card: entry '{name}' is of the wrong type ({value!r})")
    return tuple(value) if isinstance(value, list) else value


def _check_format(version: Any) -> None:
    if not isinstance(version, int):
        raise ModelError(f"model card: format must be a whole number, not {version!r}")
    if version > FORMAT:
        raise ModelError(
            f"model card: format {version} was written by a newer robustkit; "
            f"this one reads up to format {FORMAT}"
        )


def _check_classes(classes: tuple[str, ...], least: int) -> None:
    if len(classes) < least or not all(isinstance(name, str) for name in classes):
        count = "one name" if least == 1 else "two names"
        raise ModelError(f"model card: classes must be {count} or more, not {classes}")


def _check_shape(shape: tuple[int, int, int]) -> None:
    whole = len(shape) == 3 and all(type(size) is int and size >= 1 for size in shape)
    if not whole or shape[1] != shape[2]:
        raise ModelError(f"model card: input_shape must be (channels, size, size), not {shape}")


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _check_statistics(name: str, values: tuple[float, ...], channels: int) -> None:
    finite = all(isinstance(value, int | float) and _is_finite(value) for value in values)
    if len(values) != channels or not finite:
        raise ModelError(
            f"model card: {name} must be {channels} finite numbers, one per channel, not {values}"
        )
