from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustkit.data import load, open_evaluation
from robustkit.data.arrays import read_npz
from robustkit.errors import DataError
from tests.robustkit.data.conftest import WriteNpz, made_arrays


def colour(count: int) -> Any:
    return np.arange(count * 4 * 5 * 3, dtype=np.uint8).reshape(count, 4, 5, 3)


def test_grey_images_get_a_channel(write_npz: WriteNpz) -> None:
    splits = load(f"npz:{write_npz()}")
    assert splits.train.shape == (1, 8, 9)
    assert splits.train.classes == ("0", "1", "2")
    for part in (splits.train, splits.val):  # each image's pixels say which one it is
        numbers = part.images[:, 0, 0, 0].long()
        assert (numbers % 3 == part.labels).all()


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_colour_is_turned_into_channels_first(write_npz: WriteNpz, layout: str) -> None:
    train, test = colour(30), colour(6)
    if layout == "NCHW":
        stored = [array.transpose(0, 3, 1, 2) for array in (train, test)]
    else:
        stored = [train, test]
    splits = load(f"npz:{write_npz(x_train=stored[0], x_test=stored[1])}")
    assert splits.test.shape == (3, 4, 5)
    assert (splits.test.images.numpy() == test.transpose(0, 3, 1, 2)).all()


def test_tracks_and_class_names_are_read(write_npz: WriteNpz) -> None:
    path = write_npz(
        train_track=np.arange(30) // 6, classes=np.array(["ant", "bee", "cow"]), y_test=None
    )
    with pytest.raises(DataError, match=r"has no 'y_test'; it needs .* and has .*x_train"):
        load(f"npz:{path}")
    path = write_npz(train_track=np.arange(30) // 6, classes=np.array(["ant", "bee", "cow"]))
    splits = load(f"npz:{path}", val_fraction=0.3)
    assert splits.train.classes == ("ant", "bee", "cow")
    assert splits.train.tracks is not None
    assert splits.val.tracks is not None
    pairs = [
        set(zip(part.labels.tolist(), part.tracks.tolist(), strict=True))
        for part in (splits.train, splits.val)
        if part.tracks is not None
    ]
    assert not pairs[0] & pairs[1]
    assert splits.test.tracks is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": None}, "has no 'x_train'"),
        ({"x_train": np.zeros((30, 8, 9))}, r"x_train must be uint8.*float64 \(30, 8, 9\) over"),
        ({"x_train": np.zeros((30, 8), np.uint8)}, r"x_train must be \(N,H,W\).*not \(30, 8\)"),
        ({"x_train": np.zeros((30, 8, 9, 4), np.uint8)}, "with 1 or 3 channels, not"),
        ({"x_train": np.zeros((30, 3, 9, 3), np.uint8)}, "two ways"),
        ({"x_test": np.zeros((0, 8, 9), np.uint8), "y_test": np.zeros(0, int)}, "x_test.*empty"),
        ({"x_test": np.zeros((6, 9, 8), np.uint8)}, r"test images are \(1, 9, 8\)"),
        ({"y_train": np.zeros(29, int)}, r"y_train must be integers of shape \(30,\).*\(29,\)"),
        ({"y_train": np.zeros((30, 1), int)}, r"y_train must be .*\(30, 1\)"),
        ({"y_train": np.zeros(30)}, "y_train must be integers.*float64"),
        ({"y_train": np.arange(30) - 1}, "y_train has the negative label -1"),
        ({"y_train": np.zeros(30, int), "y_test": np.zeros(6, int)}, "only one class"),
        ({"y_train": np.arange(30) % 3 * 2}, "class '1' has no training image"),
        ({"y_train": np.full(30, 10**15)}, "goes up to 1000000000000000"),
        ({"y_test": np.full(6, 3)}, "test labels go up to 3, but 3 classes allow 0 to 2"),
        ({"y_train": np.arange(30)}, "empty split: no class has two images"),
        ({"train_track": np.zeros(3, int)}, "train_track must be integers"),
        ({"classes": np.arange(3)}, r"classes must be text of shape \(K,\)"),
        ({"classes": np.array(["a", "b"])}, "train labels go up to 2, but 2 classes"),
        ({"x_train": np.array([None, "code"], dtype=object)}, "npz of plain arrays"),
    ],
)
def test_bad_arrays_are_refused_in_one_line(
    write_npz: WriteNpz, changes: dict[str, Any], message: str
) -> None:
    path = write_npz(**changes)
    with pytest.raises(DataError, match=message) as caught:
        load(f"npz:{path}")
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.npz: No such file"):
        load(f"npz:{tmp_path / 'absent.npz'}")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.98])
def test_a_truncated_file_is_refused(write_npz: WriteNpz, share: float) -> None:
    path = write_npz()
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=r"cannot be read as a \.npz"):
        load(f"npz:{path}")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    np.savez_compressed(path, **made_arrays())
    content = bytearray(path.read_bytes())
    content[100:160] = bytes(60)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read as a \.npz"):
        load(f"npz:{path}")


def test_a_bare_array_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bare.npy"
    np.save(path, np.zeros(3))
    with pytest.raises(DataError, match="one bare array"):
        load(f"npz:{path}")


def test_a_header_that_asks_for_more_than_there_is_gets_no_memory(tmp_path: Path) -> None:
    header = io.BytesIO()
    told = {"descr": "|u1", "fortran_order": False, "shape": (10**13, 8, 8)}
    np.lib.format.write_array_header_1_0(header, told)
    path = tmp_path / "hostile.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x_train.npy", header.getvalue() + b"few bytes")
    with pytest.raises(DataError, match="is said to have more bytes than"):
        read_npz(path, ("x_train",), ())


def test_a_test_part_alone_is_enough_to_evaluate(write_npz: WriteNpz) -> None:
    path = write_npz(x_train=None, y_train=None)
    opened = open_evaluation(f"npz:{path}")
    assert (opened.split, opened.classes) == ("test", None)
    assert opened.read(classes=("a", "b", "c", "d")).num_classes == 4
    splits = load(f"npz:{path}")
    assert splits.classes == ("0", "1", "2")
    with pytest.raises(DataError, match="has no training split"):
        _ = splits.train
    path = write_npz(x_train=None, y_train=None, classes=np.array(["ant", "bee", "cow"]))
    assert open_evaluation(f"npz:{path}").classes == ("ant", "bee", "cow")


def test_validation_images_of_its_own_are_used(write_npz: WriteNpz) -> None:
    held = {"x_val": np.full((4, 8, 9), 9, np.uint8), "y_val": np.arange(4) % 3}
    splits = load(f"npz:{write_npz(**held)}")
    assert [len(part) for part in splits.parts.values()] == [30, 4, 6]
    assert (splits.val.images == 9).all()
    nothing = dict.fromkeys(("x_train", "y_train", "x_test", "y_test"))
    assert open_evaluation(f"npz:{write_npz(**held, **nothing)}").split == "val"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_test": None, "x_train": None, "y_train": None}, "has no 'y_test'; it needs x_test"),
        (dict.fromkeys(made_arrays()), "has no 'x_test'; it needs x_test, y_test and has nothing"),
        ({"x_val": np.zeros((2, 8, 9), np.uint8)}, "has no 'y_val'"),
    ],
)
def test_half_a_part_and_none_at_all_are_refused(
    write_npz: WriteNpz, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        open_evaluation(f"npz:{write_npz(**changes)}")
