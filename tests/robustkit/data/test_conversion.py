"""Whatever holds pictures and labels becomes the same image set, and nothing is lost on the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from robustkit.data import (
    ImageSet,
    Splits,
    as_image_set,
    channel_stats,
    conversion,
    load,
    open_evaluation,
)
from robustkit.errors import DataError
from robustkit.training import TrainConfig
from robustkit.training.examples import make_examples
from tests.robustkit.data.pictures import flat_folder

LEVELS = torch.randint(256, (150, 3, 6, 5), generator=torch.Generator().manual_seed(0)).byte()
LABELS = torch.arange(150) % 3
UNIT = LEVELS.float() / 255
BETWEEN = (UNIT + 0.0003).clamp(0, 1)  # floats that no uint8 image has


class Listed(Dataset[Any]):
    """Items (picture, label) of a list, with names of classes if told."""

    def __init__(self, items: list[Any], classes: Any = None) -> None:
        self.items = items
        if classes is not None:
            self.classes = classes

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


class Streamed(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(zip(UNIT, LABELS.tolist(), strict=True))


def channels_last(images: Tensor) -> Any:
    return images.permute(0, 2, 3, 1).numpy()


SOURCES: dict[str, Any] = {
    "tensors": lambda: (LEVELS, LABELS),
    "a list of the two": lambda: [LEVELS, LABELS.tolist()],
    "float tensors": lambda: (UNIT, LABELS),
    "double tensors": lambda: (LEVELS.double() / 255, LABELS.int()),
    "arrays": lambda: (LEVELS.numpy(), LABELS.numpy()),
    "arrays, channels last": lambda: (channels_last(LEVELS), LABELS.numpy().astype(np.uint8)),
    "double arrays": lambda: (channels_last(LEVELS) / 255, LABELS.numpy()),
    "an image set": lambda: ImageSet(LEVELS, LABELS, ("0", "1", "2")),
    "a dataset of tensors": lambda: TensorDataset(UNIT, LABELS),
    "a dataset of arrays": lambda: Listed(
        list(zip(channels_last(LEVELS), LABELS.numpy(), strict=True))
    ),
    "a dataset of pictures": lambda: Listed(
        [
            (Image.fromarray(pixels), int(label))
            for pixels, label in zip(channels_last(LEVELS), LABELS, strict=True)
        ]
    ),
    "a dataset with more in its items": lambda: Listed(
        [(picture, label, "path") for picture, label in zip(LEVELS, LABELS, strict=True)]
    ),
    "a streamed dataset": Streamed,
    "a loader": lambda: DataLoader(TensorDataset(UNIT, LABELS), batch_size=32),
    "a list of batches": lambda: [(LEVELS[:70], LABELS[:70]), (UNIT[70:], LABELS[70:])],
    "a generator of batches": lambda: (
        (UNIT[start : start + 40], LABELS[start : start + 40].tolist())
        for start in range(0, 150, 40)
    ),
}


@pytest.mark.parametrize("name", SOURCES)
def test_all_of_them_are_the_same_set(name: str) -> None:
    made = as_image_set(SOURCES[name]())
    assert made.digest() == ImageSet(LEVELS, LABELS, ("0", "1", "2")).digest()


@pytest.mark.parametrize("limit", [10**9, 5_000])
@pytest.mark.parametrize("form", ["pair", "dataset", "loader"])
def test_floats_between_the_levels_stay_as_they_are(
    form: str, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion, "IN_MEMORY", limit)
    images = torch.cat([UNIT[:100], BETWEEN[100:]])  # levels first: they must become floats again
    given: Any = {
        "pair": (images, LABELS),
        "dataset": TensorDataset(images, LABELS),
        "loader": DataLoader(TensorDataset(images, LABELS), batch_size=30),
    }[form]
    made = as_image_set(given)
    assert made.images.dtype == torch.float32
    assert torch.equal(made.images, images)
    assert torch.equal(made.floats(torch.tensor([120, 3])), images[[120, 3]])


def test_mixed_levels_and_floats_are_not_mistaken_for_each_other() -> None:
    items = [(LEVELS[0], 0), (BETWEEN[1], 1), (LEVELS[2], 0)]
    made = as_image_set(Listed(items))
    assert torch.equal(made.images, torch.stack([UNIT[0], BETWEEN[1], UNIT[2]]))


def test_large_sets_go_to_a_file_without_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion, "IN_MEMORY", 1000)
    made = as_image_set(TensorDataset(UNIT, LABELS))
    assert made.digest() == as_image_set((LEVELS, LABELS)).digest()
    folder = tmp_path / "cache"
    assert not list(folder.iterdir())
    maps = Path("/proc/self/maps").read_text()
    assert f"{folder}/" in maps  # where the pixels are
    del made


def test_splits_give_what_is_evaluated_on() -> None:
    splits = load("digits")
    assert as_image_set(splits) is splits.test
    assert as_image_set(Splits(splits.train, splits.val, None, "x")) is splits.val
    assert as_image_set(Splits(splits.train, None, None, "x")) is splits.train


def test_an_evaluation_set_is_read(tmp_path: Path) -> None:
    opened = open_evaluation("digits", size=20)
    assert as_image_set(opened).digest() == opened.read().digest()
    flat_folder(tmp_path, 8, size=(6, 6))
    opened = open_evaluation(f"images:{tmp_path}?labels=labels.csv")
    assert as_image_set(opened).classes == ("animal 0", "animal 1", "animal 2", "animal 3")
    assert as_image_set(opened, num_classes=6).classes[4:] == ("4", "5")
    assert as_image_set(opened, classes=tuple("abcde")).classes == tuple("abcde")


def test_classes_are_given_or_the_datasets_or_counted() -> None:
    items = list(zip(LEVELS[:6], [0, 1, 0, 1, 0, 1], strict=True))
    named = Listed(items, ["cat", "dog", "cow"])
    assert as_image_set(named).classes == ("cat", "dog", "cow")
    assert as_image_set(Subset(named, [3, 4])).classes == ("cat", "dog", "cow")
    assert as_image_set(DataLoader(Subset(named, [3, 4]))).labels.tolist() == [1, 0]
    assert as_image_set(named, classes=["a", "b"]).classes == ("a", "b")
    assert as_image_set(Listed(items, ["crane", "crane"])).classes == ("crane (0)", "crane (1)")
    assert as_image_set(Listed(items, 7)).classes == ("0", "1")
    assert as_image_set(Listed(items), num_classes=4).classes == ("0", "1", "2", "3")
    assert as_image_set((LEVELS[:1], [0])).classes == ("0", "1")
    base = ImageSet(LEVELS, LABELS, ("x", "y", "z"), tracks=torch.arange(150))
    assert as_image_set(base) is base
    renamed = as_image_set(base, classes=("a", "b", "c"))
    assert renamed.classes == ("a", "b", "c")
    assert renamed.tracks is base.tracks


def test_a_loader_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    as_image_set(DataLoader(TensorDataset(UNIT, LABELS), shuffle=True, batch_size=50))
    assert torch.equal(torch.get_rng_state(), before)


NORMALISED = (UNIT - 0.45) / 0.2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("cifar10", "no pictures and labels in a str; give an ImageSet"),
        ({"images": LEVELS}, "in a dict"),
        (LEVELS, "no pictures and labels in a Tensor; give"),
        (7, "in a int"),
        ((NORMALISED, LABELS), r"must lie in \[0,1\], not in \[-2.25, 2.75\]; leave Normalize out"),
        (TensorDataset(NORMALISED, LABELS), "give mean and std to models.wrap"),
        ((UNIT * float("nan"), LABELS), r"not in \[nan, nan\]"),
        ((LEVELS.long(), LABELS), r"uint8 in 0\.\.255 or float in \[0,1\], not torch\.int64"),
        ((LEVELS.permute(0, 2, 3, 1), LABELS), r"channels last; permute\(0, 3, 1, 2\)"),
        ((LEVELS[0, 0], LABELS), r"must be \(N,C,H,W\), and at least one, not \(6, 5\)"),
        ((LEVELS[:0], LABELS[:0]), r"at least one, not \(0, 3, 6, 5\)"),
        ((LEVELS, LABELS[:9]), r"labels must be int64 \(150,\)"),
        ((LEVELS, LABELS.float()), "one whole number per picture, not torch.float32"),
        ((LEVELS, torch.eye(3)[LABELS]), r"one whole number .* not torch.float32 \(150, 3\)"),
        ((LEVELS, LABELS - 1), r"labels range over \[-1, 1\]"),
        ((LEVELS.numpy().astype(object), LABELS), "must be uint8 or float .* not object"),
        (Listed([]), "no images: there is no picture in it"),
        (Listed([LEVELS[0]]), r"an item of the dataset must be \(images, labels\), not a Tensor"),
        (Listed([("x.png", 0)]), "a picture must be a tensor, .* not a str"),
        (Listed([(LEVELS[0], "cat")]), "labels must be whole numbers, not a list"),
        (Listed([(LEVELS[0], [1, 2])]), r"one whole number per picture, not \[1, 2\]"),
        (Listed([(LEVELS[0], 0), (LEVELS[1, :, :3], 0)]), r"\(3, 3, 5\) and \(3, 6, 5\); bring"),
        ([(LEVELS, LABELS), (LEVELS[:, :1], LABELS)], r"differ in shape: \(1, 6, 5\) and \(3, "),
        ([(LEVELS, LABELS[:9])], "150 pictures came with 9 labels"),
        ([LEVELS, LEVELS, LEVELS], r"a batch must be \(images, labels\), not a Tensor"),
        (Listed([(Image.new("I;16", (4, 4)), 0)]), "mode I;16; 8 bits"),
        (Listed([(Image.new("L", (4, 4)), 0), (Image.new("RGB", (4, 4)), 0)]), "differ in shape"),
    ],
)
def test_what_is_no_set_is_refused_in_one_line(given: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        as_image_set(given)
    assert "\n" not in str(caught.value)


def test_classes_and_their_number_must_agree() -> None:
    with pytest.raises(DataError, match="2 classes were named, but num_classes is 3"):
        as_image_set((LEVELS, LABELS), classes=("a", "b"), num_classes=3)
    with pytest.raises(DataError, match=r"labels range over \[0, 2\], but 2 classes"):
        as_image_set((LEVELS, LABELS), num_classes=2)


def test_training_refuses_floats_between_the_levels() -> None:
    images = as_image_set((BETWEEN, LABELS))
    with pytest.raises(
        DataError, match="training takes pictures in the 256 levels of uint8; these"
    ):
        make_examples(images, TrainConfig())


def test_statistics_of_floats_are_those_of_all_values(monkeypatch: pytest.MonkeyPatch) -> None:
    images = as_image_set((BETWEEN, LABELS))
    mean, std = channel_stats(images)
    values = BETWEEN.double()
    torch.testing.assert_close(torch.tensor(mean).double(), values.mean(dim=(0, 2, 3)))
    expected = values.std(dim=(0, 2, 3), correction=0)
    torch.testing.assert_close(torch.tensor(std).double(), expected)
    constant = ImageSet(torch.full((2, 1, 3, 3), 0.3), torch.arange(2), ("a", "b"))
    assert channel_stats(constant)[1] == (1 / 255,)


def test_a_float_set_is_a_set_like_any_other() -> None:
    images = as_image_set((BETWEEN, LABELS))
    assert images.shape == (3, 6, 5)
    part = images.subset(torch.tensor([5, 9]))
    assert torch.equal(part.images, BETWEEN[[5, 9]])
    assert torch.equal(images.floats(), BETWEEN)
    images.floats().zero_()
    assert torch.equal(images.images, BETWEEN)  # what floats gives is the caller's own
    assert images.digest() != as_image_set((LEVELS, LABELS)).digest()
    assert images.digest() == as_image_set((BETWEEN.clone(), LABELS)).digest()
