"""Held-out images are none that were repaired on."""

from __future__ import annotations

import pytest
import torch

from robustkit.errors import RepairError
from robustkit.repair import drop_shared
from tests.robustkit.repair.nets import (
    noise,
)


@pytest.mark.parametrize("shared", [0, 1, 10])
def test_held_out_images_that_were_repaired_on_are_dropped(shared: int) -> None:
    images, others = noise(30), noise(20, seed=1)
    others.images[:shared] = images.images[5 : 5 + shared]
    kept, dropped = drop_shared(others, images)
    assert dropped == shared
    assert torch.equal(kept.images, others.images[shared:])
    assert torch.equal(kept.labels, others.labels[shared:])


def test_held_out_images_must_not_be_the_repair_set() -> None:
    images, others = noise(30), noise(20, seed=1)
    others.images[:11] = images.images[:11]
    with pytest.raises(RepairError, match="11 of the 20 held-out images are images repaired on"):
        drop_shared(others, images)
    with pytest.raises(RepairError, match="30 of the 30"):
        drop_shared(images, images)
