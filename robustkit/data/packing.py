"""Splits as plain arrays and back, for workers that are given them rather than load them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robustkit.data.imageset import ImageSet
from robustkit.data.registry import PARTS
from robustkit.data.splits import Splits
from robustkit.data.storage import read_only


def packed(splits: Splits) -> dict[str, Any]:
    """The arrays, classes and name of `splits`; nothing is copied."""
    found: dict[str, Any] = {"name": splits.name, "classes": splits.classes}
    for part, images in splits.parts.items():
        tracks = None if images.tracks is None else images.tracks.numpy()
        found[part] = (images.images.numpy(), images.labels.numpy(), tracks)
    return found


def unpacked(value: Mapping[str, Any]) -> Splits:
    """The splits that were packed, on the very memory of `value`, which may be read-only."""
    parts: dict[str, ImageSet | None] = dict.fromkeys(PARTS)
    for part in (each for each in PARTS if each in value):
        images, labels, tracks = value[part]
        parts[part] = ImageSet(
            read_only(images),
            read_only(labels),
            value["classes"],
            None if tracks is None else read_only(tracks),
        )
    return Splits(parts["train"], parts["val"], parts["test"], value["name"])
