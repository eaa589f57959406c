"""Images with boxes: what every reader gives and every detector takes."""

from __future__ import annotations

import math
import os
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from robustkit.data.arrays import one_line
from robustkit.data.pictures import decode, opened_picture
from robustkit.errors import DataError
from robustkit.reading import is_printable, printable, read_text

REMEMBERED = 2 * 1024**3
"""Bytes of decoded images that a set keeps in a process: 3,500 of VOC's."""


@dataclass(frozen=True, eq=False)
class Truth:
    """What is in one image.

    `boxes` float32 (n,4) are x1, y1, x2, y2 in pixels from the upper left corner, x2 and y2 being
    the far edges: a box of one pixel at the origin is 0, 0, 1, 1. `labels` int64 (n,) index the
    set's classes. `difficult` bool (n,) marks VOC's objects that neither count nor hurt, `crowd`
    bool (n,) COCO's regions of many; `area` float32 (n,) is COCO's, by default the box's.
    """

    boxes: Tensor
    labels: Tensor
    difficult: Tensor
    crowd: Tensor
    area: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def chosen(self, which: Tensor) -> Truth:
        """Return the objects that a mask or indices name."""
        return Truth(
            self.boxes[which],
            self.labels[which],
            self.difficult[which],
            self.crowd[which],
            self.area[which],
        )

    def trained_on(self) -> Truth:
        """Return the objects without regions of many, which are no example of one."""
        return self.chosen(~self.crowd)


def truth(
    boxes: Sequence[Sequence[float]] | Tensor,
    labels: Sequence[int] | Tensor,
    *,
    difficult: Sequence[bool] | None = None,
    crowd: Sequence[bool] | None = None,
    area: Sequence[float] | None = None,
) -> Truth:
    """Return a `Truth` of plain lists; an image without objects has empty ones.

    >>> truth([[0, 0, 10, 20]], [1]).area
    tensor([200.])
    """
    edges = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    count = len(edges)
    sides = edges[:, 2:] - edges[:, :2]
    return Truth(
        boxes=edges,
        labels=torch.as_tensor(labels, dtype=torch.int64).reshape(-1),
        difficult=torch.tensor(difficult if difficult is not None else [False] * count).bool(),
        crowd=torch.tensor(crowd if crowd is not None else [False] * count).bool(),
        area=sides.prod(dim=1) if area is None else torch.tensor(area, dtype=torch.float32),
    )


@dataclass(frozen=True, eq=False)
class DetectionSet:
    """N images of any sizes, read when asked for, and what is in them.

    `name` tells where they come from; `ids` (N,) name them within the folder `root`; `read(i)`
    gives uint8 (3,H,W) and raises `DataError`, naming the file, for one that cannot be read.
    `paths` (N,) are the files they lie in, by which sets know that they share an image; none where
    there are no files.
    """

    name: str
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    truths: tuple[Truth, ...]
    read: Callable[[int], Tensor]
    root: str = ""
    paths: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.ids) == len(self.truths):
            raise DataError(f"{self.name}: {len(self.ids)} images, {len(self.truths)} truths")
        if self.paths and len(self.paths) != len(self.ids):
            raise DataError(f"{self.name}: {len(self.ids)} images, {len(self.paths)} paths")
        if not self.ids:
            raise DataError(f"{self.name}: no images")

    def __len__(self) -> int:
        return len(self.ids)

    def image(self, index: int) -> Tensor:
        """Return the pixels of one image, uint8 (3,H,W)."""
        return self.read(index)

    def subset(self, indices: Sequence[int]) -> DetectionSet:
        """Return the images at `indices`, in their order."""
        chosen = [int(index) for index in indices]
        read = self.read
        return replace(
            self,
            ids=tuple(self.ids[index] for index in chosen),
            truths=tuple(self.truths[index] for index in chosen),
            paths=tuple(self.paths[index] for index in chosen) if self.paths else (),
            read=lambda at: read(chosen[at]),
        )

    def in_memory(self) -> DetectionSet:
        """Return the same set, every image read once and kept."""
        kept = [self.read(index) for index in range(len(self))]
        return replace(self, read=kept.__getitem__)

    def remembered(self, limit: int = REMEMBERED) -> DetectionSet:
        """Return the same set, in which images once read are kept, up to `limit` bytes in all."""
        kept: dict[int, Tensor] = {}
        read, room = self.read, limit

        def remember(index: int) -> Tensor:
            nonlocal room
            if index not in kept:
                image = read(index)
                if image.nbytes > room:
                    return image
                kept[index] = image
                room -= image.nbytes
            return kept[index]

        return replace(self, read=remember)

    def with_classes(self, classes: Sequence[str]) -> DetectionSet:
        """Return the same images with labels that index `classes`, without objects of others.

        Raises `DataError` where the two have no class in common.
        """
        if tuple(classes) == self.classes:
            return self
        common = [name for name in self.classes if name in classes]
        if not common:
            raise DataError(
                f"{self.name}: no class in common with {', '.join(classes)}: it has "
                f"{', '.join(self.classes)}"
            )
        index_of = torch.tensor(
            [list(classes).index(n) if n in classes else -1 for n in self.classes]
        )
        truths = []
        for item in self.truths:
            moved = replace(item, labels=index_of[item.labels])
            truths.append(moved.chosen(moved.labels >= 0))
        return replace(self, classes=tuple(classes), truths=tuple(truths))


def joined(sets: Mapping[str, DetectionSet], name: str) -> DetectionSet:
    """Return all images of several sets as one set, one after the other.

    The classes are those of the first set and what the others have beside them, by name. Ids that
    several sets have begin with the set's own word. Raises `DataError` for an image file that two
    of them share, and for ids that are the same even so.
    """
    parts = list(sets.values())
    classes = tuple(dict.fromkeys(class_name for part in parts for class_name in part.classes))
    translated = [part.with_classes(classes) for part in parts]
    counts = Counter(image_id for part in translated for image_id in part.ids)
    ids = [
        f"{word}/{image_id}" if counts[image_id] > 1 else image_id
        for word, part in zip(sets, translated, strict=True)
        for image_id in part.ids
    ]
    twice = [item for item, count in Counter(ids).items() if count > 1]
    if twice:
        raise DataError(f"{name}: two images are called '{twice[0]}'; rename one of them")
    paths = tuple(path for part in translated for path in part.paths)
    shared = [item for item, count in Counter(map(os.path.realpath, paths)).items() if count > 1]
    if shared:
        raise DataError(f"{name}: {shared[0]} is in two of its folders; each image counts once")
    starts = list(accumulate((len(part) for part in translated), initial=0))

    def read(index: int) -> Tensor:
        which = bisect_right(starts, index) - 1
        return translated[which].read(index - starts[which])

    return DetectionSet(
        name=name,
        classes=classes,
        ids=tuple(ids),
        truths=tuple(item for part in translated for item in part.truths),
        read=read,
        root="+".join(part.root for part in translated),
        paths=paths,
    )


THINNEST = 0.01  # pixels: thinner ones vanish in float32, above all when images are mirrored
SLACK = 1.0  # pixels beyond the image that are rounding, and are cut off


def checked(
    box: tuple[float, float, float, float], size: tuple[int, int], where: str
) -> tuple[float, float, float, float]:
    """Return the box (x1, y1, x2, y2) within an image of `size` (width, height).

    Raises `DataError`, beginning with `where`, for a box without area or one that leaves the image
    by more than a pixel.
    """
    if not all(map(math.isfinite, box)):
        raise DataError(f"{where}: box {_spelt(box)} is not finite")
    x1, y1, x2, y2 = box
    width, height = size
    if not (x1 < x2 and y1 < y2):
        raise DataError(f"{where}: box {_spelt(box)} has no area; x1 < x2 and y1 < y2")
    if min(x1, y1) < -SLACK or x2 > width + SLACK or y2 > height + SLACK:
        raise DataError(f"{where}: box {_spelt(box)} leaves the image of {width} x {height} pixels")
    inside = (max(x1, 0.0), max(y1, 0.0), min(x2, width), min(y2, height))
    if not (inside[0] < inside[2] and inside[1] < inside[3]):
        raise DataError(f"{where}: box {_spelt(box)} lies outside the image of {width} x {height}")
    if min(inside[2] - inside[0], inside[3] - inside[1]) < THINNEST:
        raise DataError(f"{where}: box {_spelt(box)} is less than {THINNEST:g} pixels across")
    return inside


def _spelt(box: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{edge:g}" for edge in box) + ")"


def read_colour(file: Path) -> Tensor:
    """Return the pixels of an image file as uint8 (3,H,W); raises `DataError` naming the file."""
    with opened_picture(file) as image:
        try:
            pixels = _eight_bit(decode(image, file))
        except ValueError as error:
            raise DataError(f"{file}: not readable as an image ({one_line(error)})") from None
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _eight_bit(image: Image.Image) -> NDArray[np.uint8]:
    """Return (H,W,3) of 8 bits; PIL itself cuts grey of more than 8 bits off at white."""
    if image.mode.startswith("I;16"):
        grey = (np.asarray(image).astype(np.uint32) * 255 + 32767) // 65535
        return np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise ValueError(f"grey of 32 bits ({image.mode}); 8 or 16 bits a channel are wanted")
    return np.array(image.convert("RGB"))


def size_of(file: Path) -> tuple[int, int]:
    """Return (width, height) from the header of an image file; raises `DataError` naming it."""
    with opened_picture(file) as image:
        return image.size


VOC = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
SIX = ("bicycle", "bird", "car", "cat", "dog", "person")  # of Watercolor2k and Comic2k


def classes_of(folder: Path) -> tuple[str, ...]:
    """Return the classes of a set in VOC layout, in their order.

    Those in its `classes.txt`, one a line; without that file Watercolor2k's and Comic2k's six where
    the folder is called so, and VOC's twenty, which are Clipart1k's too. Raises `DataError` for a
    file that lists none, or one twice.
    """
    file = folder / LISTED
    if not os.path.lexists(file):
        called = folder.name.lower()
        return SIX if called.startswith(("watercolor", "comic")) else VOC
    text = read_text(file, error=DataError)
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not names or len(set(names)) < len(names):
        raise DataError(f"{file}: one class a line, each once")
    for name in names:
        if not is_printable(name):
            raise DataError(f"{file}: the class '{printable(name)}' holds control characters")
    return names


IMAGES, ANNOTATIONS, SPLITS = "JPEGImages", "Annotations", "ImageSets/Main"
LISTED = "classes.txt"  # ours: the classes in their order, one a line
