"""The sets of images against their definitions, with nets whose answers are written in the images.

`test_sets` is about how labels and pairs are named, on a trained net.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from robustkit.data import ImageSet
from robustkit.errors import RepairError
from robustkit.repair import repair_sets

CLASSES = ("a", "b", "c", "d")


class Reading(nn.Module):
    """Answers what the pixel at `place` says, 0 to 3 of 255."""

    def __init__(self, place: int) -> None:
        super().__init__()
        self.place = place
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        said = (images[:, 0, 0, self.place] * 255).round().long()
        return self.scale * nn.functional.one_hot(said, len(CLASSES)).float()


answers = st.integers(0, len(CLASSES) - 1)
rows = st.lists(st.tuples(answers, answers, answers), min_size=1, max_size=12)
named = st.lists(st.sampled_from(CLASSES), max_size=2)
confused = st.lists(st.tuples(answers, answers).filter(lambda pair: pair[0] != pair[1]), max_size=2)


@given(rows, named, confused)
def test_the_sets_are_counted_image_by_image(
    images: list[tuple[int, int, int]], labels: list[str], pairs: list[tuple[int, int]]
) -> None:
    """Each image is (its label, what the model says, what the checkpoint before said)."""
    pixels = torch.tensor([[now, before] for _, now, before in images], dtype=torch.uint8)
    given = ImageSet(
        pixels.view(-1, 1, 1, 2), torch.tensor([label for label, _, _ in images]), CLASSES
    )
    neg, pos, deg, imp = [], [], [], []
    for label, now, before in images:
        wanted = (not labels and not pairs) or CLASSES[label] in labels or (label, now) in pairs
        neg.append(now != label and wanted)
        pos.append(now == label)
        deg.append(before == label and now != label and wanted)
        imp.append(before != label and now == label)
    of = [f"{CLASSES[true]}:{CLASSES[predicted]}" for true, predicted in pairs]
    if not any(neg):
        with pytest.raises(RepairError, match="no failures to repair"):
            repair_sets(Reading(0), given, Reading(1), labels=labels, pairs=of)
        return
    made = repair_sets(Reading(0), given, Reading(1), labels=labels, pairs=of)
    assert made.predicted.tolist() == [now for _, now, _ in images]
    found = [each.tolist() for each in (made.neg, made.pos, made.deg, made.imp)]
    assert found == [neg, pos, deg, imp]
    assert made.history
    without = repair_sets(Reading(0), given, labels=labels, pairs=of)
    assert (without.neg.tolist(), without.pos.tolist()) == (neg, pos)
    assert not without.history
    assert not without.deg.any()
    assert not without.imp.any()
