"""Folders named by wnid: the usual order, whichever of them are there."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
import torch

from robustkit.class_names import distinct, imagenet_classes
from robustkit.data import imagenet_wnids, load, open_evaluation
from robustkit.errors import DataError
from tests.robustkit.data.pictures import draw_noise, published

ROOT = os.environ.get("ROBUSTKIT_DATA", "")  # read before the tests' surroundings hide it
TENCH, CRANE, TISSUE = "n01440764", "n02012849", "n15075141"  # 0, 134, 999


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    root = tmp_path / "imagenet"
    for seed, wnid in enumerate((TISSUE, CRANE, TENCH)):
        draw_noise(root / wnid / f"{wnid}_1.JPEG", seed)
    return root


def test_the_wnids_are_a_thousand_in_their_order() -> None:
    wnids = imagenet_wnids()
    assert len(wnids) == 1000
    assert list(wnids) == sorted(wnids)
    assert [wnids[each] for each in (TENCH, CRANE, TISSUE)] == [0, 134, 999]


def test_the_classes_are_torchvisions_and_differ() -> None:
    classes = imagenet_classes()
    assert len(set(classes)) == 1000
    assert (classes[0], classes[1], classes[999]) == ("tench", "goldfish", "toilet tissue")
    assert "crane" in classes[134]
    assert "crane" in classes[517]


def test_wnids_and_names_belong_together() -> None:
    file = Path(ROOT) / "imagenet1000" / "labels.csv"
    if not ROOT or not file.is_file():
        pytest.skip("ROBUSTKIT_DATA has no imagenet1000")
    wnids = imagenet_wnids()
    for row in csv.DictReader(file.open()):
        assert wnids[row["wnid"]] == int(row["label"])


def test_classes_alone_are_for_testing_with_their_usual_labels(folders: Path) -> None:
    opened = open_evaluation(f"imagenet:{folders}?size=24&resize=28")
    assert opened.split == "test"
    assert opened.classes == imagenet_classes()
    assert opened.labels.tolist() == [0, 134, 999]
    read = opened.read()
    for wnid, pixels in zip((TENCH, CRANE, TISSUE), read.images, strict=True):
        file = folders / wnid / f"{wnid}_1.JPEG"
        assert torch.equal(pixels, published(file, 28, [24, 24], "bilinear"))
    splits = load(f"imagenet:{folders}?size=24&resize=28")
    assert splits.test.digest() == read.digest()
    with pytest.raises(DataError, match="has no training split"):
        _ = splits.train


def test_parts_may_hold_the_classes(folders: Path, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    folders.rename(tmp_path / "whole" / "val")
    opened = open_evaluation(f"imagenet:{tmp_path / 'whole'}")
    assert opened.split == "val"
    assert opened.labels.tolist() == [0, 134, 999]


@pytest.mark.parametrize("name", ["cats", "n99999999", "n0144076"])
def test_a_folder_that_is_no_wnid_is_named(folders: Path, name: str) -> None:
    (folders / name).mkdir()
    with pytest.raises(DataError, match=f"holds '{name}', which is no wnid of ILSVRC2012's"):
        open_evaluation(f"imagenet:{folders}")


def test_folders_without_pictures_are_an_empty_split(tmp_path: Path) -> None:
    (tmp_path / TENCH).mkdir()
    with pytest.raises(DataError, match="an empty split: no test images"):
        open_evaluation(f"imagenet:{tmp_path}")
    with pytest.raises(DataError, match="no such folder: nowhere"):
        open_evaluation("imagenet:nowhere")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("a", "b"), ("a", "b")),
        (("a", "b", "a"), ("a (0)", "b", "a (2)")),
        (("a", "a", "a (0)"), ("a (0) (0)", "a (1)", "a (0) (2)")),
        ((), ()),
    ],
)
def test_distinct_tells_apart_and_leaves_alone(
    names: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert distinct(names) == expected


def test_the_real_pictures_are_opened_by_their_labels() -> None:
    folder = Path(ROOT) / "imagenet1000"
    if not ROOT or not folder.is_dir():
        pytest.skip("ROBUSTKIT_DATA has no imagenet1000")
    spec = f"images:{folder / 'images'}?labels=../labels.csv&size=64&interpolation=bicubic"
    opened = open_evaluation(spec, size=20, seed=1)
    assert opened.classes is None
    assert opened.hints[1] == "goldfish"
    read = opened.read(classes=imagenet_classes())
    assert read.shape == (3, 64, 64)
    names = {index: wnid for wnid, index in imagenet_wnids().items()}
    for label, pixels in zip(read.labels.tolist(), read.images, strict=True):
        file = folder / "images" / f"{names[label]}.jpg"
        assert torch.equal(pixels, published(file, 64, [64, 64], "bicubic"))
