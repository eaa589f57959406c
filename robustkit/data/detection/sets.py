"""Images with boxes: what every reader gives and every detector takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robustkit.errors import DataError


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
        """The objects that a mask or indices name."""
        return Truth(
            self.boxes[which],
            self.labels[which],
            self.difficult[which],
            self.crowd[which],
            self.area[which],
        )

    def trained_on(self) -> Truth:
        """Without the regions of many objects, which are no example of one."""
        return self.chosen(~self.crowd)


def truth(
    boxes: Sequence[Sequence[float]] | Tensor,
    labels: Sequence[int] | Tensor,
    *,
    difficult: Sequence[bool] | None = None,
    crowd: Sequence[bool] | None = None,
    area: Sequence[float] | None = None,
) -> Truth:
    """A `Truth` of plain lists; an image without objects has empty ones.

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
    """

    name: str
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    truths: tuple[Truth, ...]
    read: Callable[[int], Tensor]
    root: str = ""

    def __post_init__(self) -> None:
        if not len(self.ids) == len(self.truths):
            raise DataError(f"{self.name}: {len(self.ids)} images, {len(self.truths)} truths")
        if not self.ids:
            raise DataError(f"{self.name}: no images")

    def __len__(self) -> int:
        return len(self.ids)

    def image(self, index: int) -> Tensor:
        """The pixels of one image, uint8 (3,H,W)."""
        return self.read(index)

    def subset(self, indices: Sequence[int]) -> DetectionSet:
        """The images at `indices`, in their order."""
        chosen = [int(index) for index in indices]
        read = self.read
        return replace(
            self,
            ids=tuple(self.ids[index] for index in chosen),
            truths=tuple(self.truths[index] for index in chosen),
            read=lambda at: read(chosen[at]),
        )

    def in_memory(self) -> DetectionSet:
        """The same set, every image read once and kept."""
        kept = [self.read(index) for index in range(len(self))]
        return replace(self, read=kept.__getitem__)

    def with_classes(self, classes: Sequence[str]) -> DetectionSet:
        """The same images told in the words of `classes`: objects of other classes are left out.

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
        place = torch.tensor([list(classes).index(n) if n in classes else -1 for n in self.classes])
        truths = []
        for each in self.truths:
            moved = replace(each, labels=place[each.labels])
            truths.append(moved.chosen(moved.labels >= 0))
        return replace(self, classes=tuple(classes), truths=tuple(truths))
