"""Images to judge a repair on that were not repaired on."""

from __future__ import annotations

import torch
from torch import Tensor

from robustkit.data import ImageSet
from robustkit.errors import RepairError


def drop_shared(held_out: ImageSet, images: ImageSet) -> tuple[ImageSet, int]:
    """`held_out` without what is also among `images`, pixel for pixel, and how many that were.

    Data sets hold natural duplicates, and those are dropped. Raises `RepairError` where more than
    half of `held_out` is shared: then it is the repair set, and proves nothing.
    """
    seen = set(_contents(images.images))
    own = torch.tensor([content not in seen for content in _contents(held_out.images)])
    dropped = len(own) - int(own.sum())
    if 2 * dropped > len(own):
        raise RepairError(
            f"{dropped} of the {len(own)} held-out images are images repaired on: they prove "
            "nothing; hold out others, or say that the paper's protocol is meant"
        )
    return (held_out.subset(torch.nonzero(own).squeeze(1)) if dropped else held_out), dropped


def _contents(images: Tensor) -> list[bytes]:
    return [image.tobytes() for image in images.numpy()]
