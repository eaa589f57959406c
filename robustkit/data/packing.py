"""Splits as plain arrays and back, for workers that are given them rather than load them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robustkit.data.imageset import ImageSet, Splits
from robustkit.data.storage import read_only

PARTS = ("train", "val", "test")


def packed(splits: Splits) -> dict[str, Any]:
    """The arrays, classes and name of `splits`; nothing is copied."""
    found: dict[str, Any] = {"name": splits.name, "classes": splits.train.classes}
    for part in PARTS:
        images: ImageSet = getattr(splits, part)
        tracks = None if images.tracks is None else images.tracks.numpy()
        found[part] = (images.images.numpy(), images.labels.numpy(), tracks)
    return found


def unpacked(value: Mapping[str, Any]) -> Splits:
    """The splits that were packed, on the very memory of `value`, which may be read-only."""
    parts = {}
    for part in PARTS:
        images, labels, tracks = value[part]
        parts[part] = ImageSet(
            read_only(images),
            read_only(labels),
            value["classes"],
            None if tracks is None else read_only(tracks),
        )
    return Splits(name=value["name"], **parts)
