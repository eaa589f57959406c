"""The three splits of a source, of which not all need to be there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from robustkit.compute.tensorfiles import read_only
from robustkit.data.arrays import Array
from robustkit.data.imageset import ImageSet
from robustkit.data.sources.base import KIND, PARTS
from robustkit.errors import DataError


class Splits:
    """Training, validation and test sets of one source, alike in image shape and classes.

    Whatever is chosen (hyper-parameters, architectures, epochs) is chosen on `val`; `test` is for
    the values that are quoted. A set that is not there is None when the splits are made, and
    raises DataError when it is asked for. Raises DataError where the sets differ, or there is none.
    """

    def __init__(
        self,
        train: ImageSet | None,
        val: ImageSet | None,
        test: ImageSet | None,
        name: str,
    ) -> None:
        given = {"train": train, "val": val, "test": test}
        self._parts = {part: images for part, images in given.items() if images is not None}
        self._name = name
        if not self._parts:
            raise DataError(f"{name}: no images in any split")
        first, like = next(iter(self._parts.items()))
        for part, images in self._parts.items():
            if images.shape != like.shape:
                raise DataError(
                    f"{name}: {part} images are {images.shape}, {first} images "
                    f"{like.shape}; (C,H,W) must be the same"
                )
            if images.classes != like.classes:
                raise DataError(f"{name}: {part} and {first} have different classes")

    def __repr__(self) -> str:
        sizes = ", ".join(f"{part} {len(images)}" for part, images in self._parts.items())
        return f"<Splits of {self._name}: {sizes}>"

    @property
    def name(self) -> str:
        """The spec of the source."""
        return self._name

    @property
    def parts(self) -> Mapping[str, ImageSet]:
        """The sets that are there, by their names, in the order train, val, test."""
        return MappingProxyType(self._parts)

    @property
    def train(self) -> ImageSet:
        """What may be trained on; raises DataError where there is none."""
        return self._part("train")

    @property
    def val(self) -> ImageSet:
        """What choices are made on; raises DataError where there is none."""
        return self._part("val")

    @property
    def test(self) -> ImageSet:
        """What is evaluated at the end; raises DataError where there is none."""
        return self._part("test")

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, the same in every set."""
        return next(iter(self._parts.values())).classes

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        return next(iter(self._parts.values())).shape

    def replaced(self, **changes: ImageSet | None) -> Splits:
        """Return splits with some of `train`, `val` and `test` exchanged, None taking one away."""
        if strange := changes.keys() - set(PARTS):
            raise TypeError(f"no such split: {', '.join(sorted(strange))}")
        parts = {part: self._parts.get(part) for part in PARTS} | changes
        return Splits(parts["train"], parts["val"], parts["test"], self._name)

    def _part(self, part: str) -> ImageSet:
        if part not in self._parts:
            raise missing_part(self._name, part, self._parts)
        return self._parts[part]


def missing_part(name: str, part: str, there: Mapping[str, object]) -> DataError:
    """Return the error for a split that is asked for and not there."""
    held = " and ".join(KIND[item] for item in there)
    return DataError(
        f"{name}: has no {KIND[part]} split, which is needed here; what it has is {held} images"
    )


@dataclass(frozen=True)
class PackedSplits:
    """The arrays of splits, to be shared between processes: images, labels and tracks by part."""

    name: str
    classes: tuple[str, ...]
    parts: Mapping[str, tuple[Array, Array, Array | None]]


def packed(splits: Splits) -> PackedSplits:
    """Return the arrays, classes and name of `splits`; nothing is copied."""
    parts = {
        part: (
            images.images.numpy(),
            images.labels.numpy(),
            None if images.tracks is None else images.tracks.numpy(),
        )
        for part, images in splits.parts.items()
    }
    return PackedSplits(splits.name, splits.classes, parts)


def unpacked(value: PackedSplits) -> Splits:
    """Return the splits that were packed, on the memory of `value`, which may be read-only."""
    parts: dict[str, ImageSet | None] = dict.fromkeys(PARTS)
    for part, (images, labels, tracks) in value.parts.items():
        parts[part] = ImageSet(
            read_only(images),
            read_only(labels),
            value.classes,
            None if tracks is None else read_only(tracks),
        )
    return Splits(parts["train"], parts["val"], parts["test"], value.name)
