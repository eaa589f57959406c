from __future__ import annotations

from pathlib import Path

import pytest
import torch

from robustkit.data import SOURCES, load
from robustkit.data.sources.base import source
from robustkit.errors import ConfigError, DataError
from tests.robustkit.data.conftest import WriteNpz


def test_digits_are_embedded() -> None:
    splits = load("digits")
    sizes = len(splits.train), len(splits.val), len(splits.test)
    assert sum(sizes) == 1797
    assert sizes == (1215, 135, 447)
    assert splits.train.shape == (1, 16, 16)
    assert splits.train.classes == tuple("0123456789")
    assert splits.name == "digits"
    assert splits.train.images.max() == 255
    assert splits.train.images.min() == 0


def test_digits_are_the_same_bytes_on_every_machine() -> None:
    digest = load("digits").test.digest()
    assert digest == "cf64b031a1a22a1dc74643b06ac7a67ac23fe24feb5458604ac21a8dbbdbabcd"


def test_digits_are_read_alike_through_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    direct = load("digits")
    monkeypatch.setattr("robustkit.data.sources.digits.find_spec", lambda _: None)
    through = load("digits")
    for part in ("train", "val", "test"):
        assert getattr(direct, part).digest() == getattr(through, part).digest()


def test_digits_are_scaled_exactly_by_two() -> None:
    """Slow oracle: an output pixel weighs its four nearest input pixels 9:3:3:1, edges repeated."""
    from sklearn.datasets import load_digits

    splits = load("digits")
    images = torch.cat([part.images for part in (splits.train, splits.val, splits.test)])
    known = {image.numpy().tobytes() for image in images}
    for levels in load_digits().images[:3].astype(int):
        scaled = torch.zeros(16, 16, dtype=torch.uint8)
        for y in range(16):
            for x in range(16):
                near_y, far_y = y // 2, min(max(y // 2 + (1 if y % 2 else -1), 0), 7)
                near_x, far_x = x // 2, min(max(x // 2 + (1 if x % 2 else -1), 0), 7)
                sixteenths = (
                    9 * levels[near_y, near_x]
                    + 3 * levels[far_y, near_x]
                    + 3 * levels[near_y, far_x]
                    + levels[far_y, far_x]
                )
                scaled[y, x] = round(sixteenths * 255 / 256)
        assert scaled.numpy().tobytes() in known


def test_training_and_validation_depend_on_the_seed_and_test_does_not() -> None:
    first, again, other = load("digits"), load("digits"), load("digits", seed=1)
    for part in ("train", "val", "test"):
        assert getattr(first, part).digest() == getattr(again, part).digest()
    assert first.val.digest() != other.val.digest()
    assert first.test.digest() == other.test.digest()


def test_train_size_takes_from_training_and_leaves_the_rest_alone() -> None:
    whole, small = load("digits"), load("digits", train_size=100)
    assert len(small.train) == 100
    assert (torch.bincount(small.train.labels) - 10).abs().max() <= 1
    assert small.val.digest() == whole.val.digest()
    assert small.test.digest() == whole.test.digest()
    known = {image.numpy().tobytes() for image in whole.train.images}
    assert all(image.numpy().tobytes() in known for image in small.train.images)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (1216, "digits: a sample of 1216 images was asked for, but there are 1215"),
        (9, "digits: a sample of 9 images cannot hold 10 classes"),
        (0, "digits: a sample of 0 images"),
        (-5, "digits: a sample of -5 images"),
    ],
)
def test_a_train_size_that_cannot_be_is_refused(size: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load("digits", train_size=size)


def test_a_validation_split_cannot_be_nothing_or_everything() -> None:
    for fraction in (0.0, 1.0):
        with pytest.raises(ConfigError, match="between 0 and 1"):
            load("digits", val_fraction=fraction)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digit", "unknown data 'digit'; did you mean 'digits'\\?"),
        ("coco", r"unknown data 'coco'.*known: cifar10, .*digits, .*folder:PATH.*npz:PATH"),
        ("imagenet", "'imagenet' lacks a path; write imagenet:PATH"),
        ("c.npz", "unknown data 'c.npz'; did you mean 'npz:c.npz'"),
        ("digits?size=8", r"'digits' takes no options, so 'digits\?size=8' cannot be"),
        ("", "unknown data ''"),
        ("npz", "'npz' lacks a path; write npz:PATH"),
        ("folder:", "'folder:' lacks a path; write folder:PATH"),
        ("digits:here", "'digits' takes no path"),
        ("folders:here", "unknown data 'folders'; did you mean 'folder:PATH'"),
    ],
)
def test_names_that_are_no_source_are_refused(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load(name)
    assert "\n" not in str(caught.value)


def test_a_source_name_is_registered_once() -> None:
    before = dict(SOURCES)
    with pytest.raises(ValueError, match="data source 'digits' is registered twice"):
        source("digits")(SOURCES["digits"].open)
    assert before == SOURCES


def test_a_path_may_start_at_home(write_npz: WriteNpz, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_npz()
    monkeypatch.setenv("HOME", str(path.parent))
    assert len(load(f"npz:~/{path.name}").test) == 6


@pytest.mark.parametrize(
    ("inside", "meant"),
    [
        ("ant/1.png", "'folder:{}?size=8'"),
        ("n01440764/1.png", "'imagenet:{}?size=8'"),
        ("val/n01440764/1.png", "'imagenet:{}?size=8'"),
        ("1.png", "'images:{}?labels=FILE.csv'"),
    ],
)
def test_a_bare_folder_is_told_how_to_be_named(tmp_path: Path, inside: str, meant: str) -> None:
    (tmp_path / inside).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / inside).touch()
    with pytest.raises(DataError) as caught:
        load(f"{tmp_path}?size=8")
    assert f"did you mean {meant.format(tmp_path)}?" in str(caught.value)
