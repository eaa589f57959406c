from __future__ import annotations

import pickle

import pytest
import torch

from robustkit.data import ImageSet, Splits, packed, unpacked
from robustkit.errors import DataError

PARTS = ("train", "val", "test")


def made(value: int, shape: tuple[int, int, int] = (1, 2, 3)) -> ImageSet:
    images = torch.full((4, *shape), value, dtype=torch.uint8)
    return ImageSet(images, torch.tensor([0, 1, 0, 1]), ("cat", "dog"))


@pytest.mark.parametrize("there", [("test",), ("val", "test"), ("train", "test"), PARTS])
def test_a_part_that_is_not_there_is_refused_when_it_is_asked_for(there: tuple[str, ...]) -> None:
    parts = {part: made(place) if part in there else None for place, part in enumerate(PARTS)}
    splits = Splits(parts["train"], parts["val"], parts["test"], "images:photos")
    assert tuple(splits.parts) == there
    assert splits.classes == ("cat", "dog")
    assert splits.shape == (1, 2, 3)
    words = {"train": "training", "val": "validation", "test": "test"}
    for part in PARTS:
        if part in there:
            assert getattr(splits, part) is parts[part]
            continue
        with pytest.raises(
            DataError,
            match=f"images:photos: has no {words[part]} split, which is needed here; what it has",
        ) as caught:
            getattr(splits, part)
        assert "\n" not in str(caught.value)


def test_splits_without_any_images_are_refused() -> None:
    with pytest.raises(DataError, match="nothing: no images in any split"):
        Splits(None, None, None, "nothing")


def test_replaced_exchanges_and_takes_away() -> None:
    splits = Splits(made(0), made(1), made(2), "toy")
    other = made(3)
    changed = splits.replaced(test=other, train=None)
    assert changed.test is other
    assert changed.val is splits.val
    assert "train" not in changed.parts
    assert changed.name == "toy"
    assert tuple(splits.parts) == PARTS
    with pytest.raises(TypeError, match="no such split: tests"):
        splits.replaced(tests=other)


def test_splits_stay_as_they_were_made() -> None:
    splits = Splits(made(0), made(1), made(2), "toy")
    with pytest.raises(AttributeError):
        splits.test = made(3)  # type: ignore[misc]
    with pytest.raises(TypeError):
        splits.parts["test"] = made(3)  # type: ignore[index]


@pytest.mark.parametrize("there", [("test",), PARTS])
def test_splits_are_packed_and_pickled_with_the_parts_they_have(there: tuple[str, ...]) -> None:
    parts = {part: made(place) if part in there else None for place, part in enumerate(PARTS)}
    splits = Splits(parts["train"], parts["val"], parts["test"], "toy")
    for again in (unpacked(packed(splits)), pickle.loads(pickle.dumps(splits))):  # noqa: S301
        assert tuple(again.parts) == there
        assert again.name == "toy"
        assert all(again.parts[part].digest() == splits.parts[part].digest() for part in there)
