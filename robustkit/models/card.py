"""What a model file says about itself beside its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from robustkit.errors import ModelError
from robustkit.geometry import LARGEST
from robustkit.models.preprocessing import Preprocessing
from robustkit.reading import Json, check_kind, is_printable, parse_json, printable
from robustkit.runs.summaries import Published
from robustkit.specs import shortened

FORMAT = 2  # 1 had `mean` and `std` instead of `preprocessing`
DETECTOR = "detector"  # the family of the cards of `adaptation`
WRAPPED = "wrapped"  # that of modules made in Python, which no card can build again


@dataclass(frozen=True, kw_only=True)
class Card:
    """Everything but the weights that is needed to rebuild a classifier, and where it came from.

    `architecture` is plain JSON with the entry `family`; `classes` are the names of the logits in
    order; `input_shape` is (C, H, W) of the pictures the model was made for; `preprocessing` says
    what it does with them; `provenance` is whatever the maker wants to be remembered; `parent` is
    the digest of the model this one was made from. A module that was wrapped by hand may leave its
    classes (none) and its picture size (zeros) open. Raises `ModelError` naming the entry that does
    not fit.
    """

    architecture: Mapping[str, Any]
    classes: tuple[str, ...]
    input_shape: tuple[int, int, int]
    preprocessing: Preprocessing
    provenance: Mapping[str, Any] = field(default_factory=dict)
    parent: str | None = None
    format: int = FORMAT

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ModelError(f"model card: format must be {FORMAT}, not {self.format}")
        family = self.architecture.get("family")
        if not isinstance(family, str):
            raise ModelError("model card: architecture must name its family")
        if not (family == WRAPPED and not self.classes):
            # A detector may look for one class; a classifier needs two.
            _check_classes(self.classes, 1 if family == DETECTOR else 2)
        _check_shape(self.input_shape, 0 if family == WRAPPED else 1)
        _ = self.published  # checked like the rest
        counted = len(self.preprocessing.mean)
        channels = self.input_shape[0]
        # Grey pictures are shown to a net of three channels in all three.
        if counted not in ({0, 1, 3} if channels == 1 else {0, channels}):
            raise ModelError(
                f"model card: mean and std must be {channels} finite numbers, one per channel, not "
                f"{counted}"
            )

    @classmethod
    def trained_on(
        cls,
        *,
        architecture: Mapping[str, Any],
        classes: Sequence[str],
        input_shape: tuple[int, int, int],
        mean: Sequence[float],
        std: Sequence[float],
    ) -> Card:
        """Return the card of a net made for pictures of exactly `input_shape`, normalised by these
        statistics of its data; pictures of another size are refused."""
        for name, values in (("mean", mean), ("std", std)):
            if len(values) != input_shape[0]:
                raise ModelError(
                    f"model card: {name} must be {input_shape[0]} finite numbers, one per channel, "
                    f"not {tuple(values)}"
                )
        preprocessing = Preprocessing(
            mean=tuple(mean), std=tuple(std), input_size=input_shape[1:], interpolation=None
        )
        return cls(
            architecture=architecture,
            classes=tuple(classes),
            input_shape=input_shape,
            preprocessing=preprocessing,
        )

    @property
    def published(self) -> Published | None:
        """The accuracy published with the weights, None where the provenance has none."""
        entry = self.provenance.get("published")
        if entry is None:
            return None
        return check_kind(entry, Published, "model card: published", error=ModelError)

    @property
    def mean(self) -> tuple[float, ...]:
        """What is subtracted of each channel; zeros where the net takes pictures as they are."""
        return self.preprocessing.mean or (0.0,) * self.input_shape[0]

    @property
    def std(self) -> tuple[float, ...]:
        """What each channel is divided by; ones where the net takes pictures as they are."""
        return self.preprocessing.std or (1.0,) * self.input_shape[0]

    @property
    def is_plain(self) -> bool:
        """Whether all that is done to pictures is normalising them, as in cards of format 1."""
        preprocessing = self.preprocessing
        return (
            len(preprocessing.mean) == self.input_shape[0]
            and preprocessing.channel_order == "rgb"
            and preprocessing.input_size == self.input_shape[1:]
            and preprocessing.interpolation is None
        )

    def to_json(self) -> str:
        """Return a line of JSON with sorted keys; NaN and infinities raise `ValueError`."""
        return json.dumps(asdict(self), sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Card:
        """Return the card that `to_json` wrote; raises `ModelError`, also for a newer format."""
        plain = parse_json(text, "model card", error=ModelError)
        if not isinstance(plain, dict):
            raise ModelError("model card: not a JSON object")
        _check_format(plain.get("format"))
        if plain["format"] == 1:
            plain = _from_format_1(plain)
        names = {item.name for item in fields(cls)}
        if plain.keys() != names:
            odd = sorted(plain.keys() ^ names)
            raise ModelError(f"model card: missing or unknown entries: {', '.join(odd)}")
        values = {name: _typed(name, value) for name, value in plain.items()}
        try:
            values["preprocessing"] = Preprocessing.from_dict(values["preprocessing"])
        except ModelError as error:
            raise ModelError(f"model card: {error}") from None
        return cls(**values)


_TYPES: dict[str, type | tuple[type, ...]] = {
    "architecture": dict,
    "classes": list,
    "input_shape": list,
    "preprocessing": dict,
    "provenance": dict,
    "parent": (str, type(None)),
    "format": int,
}


def _typed(name: str, value: Any) -> Any:
    if not isinstance(value, _TYPES[name]):
        raise ModelError(f"model card: entry '{name}' is of the wrong type ({_shown(value)})")
    return tuple(value) if isinstance(value, list) else value


def _from_format_1(plain: Mapping[str, Any]) -> Json:
    """Return the entries of a card of format 1 as those of today, unchecked."""
    rest = {name: value for name, value in plain.items() if name not in ("mean", "std", "format")}
    shape = plain.get("input_shape")
    for name in ("mean", "std"):
        entry = plain.get(name)
        if not isinstance(entry, list):
            raise ModelError(f"model card: entry '{name}' is missing or of the wrong type")
        if isinstance(shape, list) and shape and len(entry) != shape[0]:
            raise ModelError(
                f"model card: {name} must be {shape[0]} finite numbers, one per channel, "
                f"not {entry}"
            )
    size = shape[1:] if isinstance(shape, list) else None
    preprocessing = {
        "mean": plain["mean"],
        "std": plain["std"],
        "input_size": size,
        "interpolation": None,
        "channel_order": "rgb",
        "geometry": None,
    }
    return {**rest, "preprocessing": preprocessing, "format": FORMAT}


def _shown(value: object) -> str:
    return shortened(printable(repr(value)))


def _check_format(version: Any) -> None:
    if not isinstance(version, int):
        raise ModelError(f"model card: format must be a whole number, not {_shown(version)}")
    if version < 1:
        raise ModelError(f"model card: format must be 1 to {FORMAT}, not {version}")
    if version > FORMAT:
        raise ModelError(
            f"model card: format {version} was written by a newer robustkit; "
            f"this one reads up to format {FORMAT}"
        )


def _check_classes(classes: tuple[str, ...], least: int) -> None:
    if len(classes) < least or not all(isinstance(name, str) for name in classes):
        count = "one name" if least == 1 else "two names"
        raise ModelError(f"model card: classes must be {count} or more, not {_shown(classes)}")
    for name in classes:
        if not is_printable(name):
            raise ModelError(f"model card: the class name '{printable(name)}' cannot be printed")


def _check_shape(shape: tuple[int, int, int], least: int) -> None:
    if len(shape) != 3 or not all(type(size) is int and size >= least for size in shape):
        raise ModelError(
            f"model card: input_shape must be (channels, height, width), not {_shown(shape)}"
        )
    if max(shape) > LARGEST:
        raise ModelError(f"model card: input_shape {shape} has a side beyond {LARGEST}")
