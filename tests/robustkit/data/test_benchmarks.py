"""The benchmark sets: from a .npz of their name, or from made files in their original format."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from robustkit.data import load
from robustkit.errors import DataError
from tests.robustkit.data.conftest import WriteNpz

NAMES = ("mnist", "fashion_mnist", "cifar10", "gtsrb")


def write_idx(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.tobytes())


def write_mnist(root: Path, dataset: str) -> None:
    for prefix, count in (("train", 40), ("t10k", 20)):
        labels = np.arange(count, dtype=np.uint8) % 10
        images = np.broadcast_to(labels[:, None, None], (count, 28, 28))
        raw = root / dataset / "raw"
        write_idx(raw / f"{prefix}-images-idx3-ubyte", np.ascontiguousarray(images))
        write_idx(raw / f"{prefix}-labels-idx1-ubyte", labels)


def write_cifar10(root: Path) -> None:
    folder = root / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        labels = np.arange(10, dtype=np.uint8)[:, None]
        planes = np.repeat(np.array([[1, 2, 3]], dtype=np.uint8), 1024, axis=1)
        (folder / f"{name}.bin").write_bytes(np.hstack([labels, labels + planes]).tobytes())


def write_gtsrb(root: Path) -> None:
    base = root / "gtsrb"
    for label in range(43):
        for track in range(2):
            for frame in range(2):
                path = base / f"GTSRB/Training/{label:05d}/{track:05d}_{frame:05d}.ppm"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (20 + label, 25), (label, track, frame)).save(path)
    images = base / "GTSRB" / "Final_Test" / "Images"
    images.mkdir(parents=True)
    lines = ["Filename;Width;Height;ClassId"]
    for number in range(5):
        Image.new("RGB", (30, 30), (number, 0, 0)).save(images / f"{number:05d}.ppm")
        lines.append(f"{number:05d}.ppm;30;30;{number * 2}")
    (base / "GT-final_test.csv").write_text("\n".join(lines))


@pytest.mark.parametrize(
    ("name", "dataset", "eighth"),
    [("mnist", "MNIST", "8"), ("fashion_mnist", "FashionMNIST", "bag")],
)
def test_mnist_and_its_drop_in_are_read_from_idx_files(
    tmp_path: Path, name: str, dataset: str, eighth: str
) -> None:
    write_mnist(tmp_path, dataset)
    splits = load(name, root=tmp_path, val_fraction=0.25)
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [30, 10, 20]
    assert splits.train.shape == (1, 28, 28)
    assert torch.equal(splits.train.images[:, 0, 9, 9].long(), splits.train.labels)
    assert splits.train.classes[8] == eighth


def test_cifar10_is_read_from_its_binary_version(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    splits = load("cifar10", root=tmp_path, val_fraction=0.2)
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [40, 10, 10]
    assert splits.train.shape == (3, 32, 32)
    assert splits.train.classes[8] == "ship"
    expected = splits.train.labels[:, None] + torch.tensor([1, 2, 3])
    assert torch.equal(splits.train.images[:, :, 31, 31].long(), expected)


def test_a_cut_cifar10_file_is_named(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    path = tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(DataError, match=r"data_batch_3\.bin has 30723 bytes, not a multiple of"):
        load("cifar10", root=tmp_path)


def test_gtsrb_is_read_with_its_tracks(tmp_path: Path) -> None:
    write_gtsrb(tmp_path)
    splits = load("gtsrb", root=tmp_path, val_fraction=0.5)
    assert splits.train.shape == (3, 32, 32)
    assert splits.train.classes == tuple(f"{number:02d}" for number in range(43))
    assert len(splits.train) == len(splits.val) == 86
    for part in (splits.train, splits.val):
        assert torch.equal(part.images[:, 0, 0, 0].long(), part.labels)
        assert part.tracks is not None
        assert torch.equal(part.images[:, 1, 0, 0].long(), part.tracks)
    assert splits.test.labels.tolist() == [0, 2, 4, 6, 8]
    assert splits.test.images[:, 0, 5, 5].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (";ClassId", ";Class", "has no column 'ClassId'"),
        ("30;4", "30;stop", "'stop' should be the number"),
        ("30;4", "30;43", "test labels go up to 43, but 43 classes allow 0 to 42"),
    ],
)
def test_a_bad_gtsrb_table_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    write_gtsrb(tmp_path)
    table = tmp_path / "gtsrb" / "GT-final_test.csv"
    table.write_text(table.read_text().replace(old, new))
    with pytest.raises(DataError, match=message):
        load("gtsrb", root=tmp_path)


def test_a_npz_of_the_name_comes_first_and_root_may_be_in_the_environment(
    tmp_path: Path, write_npz: WriteNpz, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mnist(tmp_path, "MNIST")
    write_npz("mnist.npz", y_train=np.arange(30) % 10)
    monkeypatch.setenv("ROBUSTKIT_DATA", str(tmp_path))
    splits = load("mnist")
    assert splits.train.shape == (1, 8, 9)
    assert splits.train.classes == tuple("0123456789")


def test_labels_beyond_the_known_classes_are_refused(tmp_path: Path, write_npz: WriteNpz) -> None:
    write_npz("mnist.npz", y_train=np.arange(30) % 11)
    with pytest.raises(DataError, match="train labels go up to 10, but 10 classes allow 0 to 9"):
        load("mnist", root=tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_fetched_unless_asked_for(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(DataError, match=f"no {name} in .*unless download is asked for") as caught:
        load(name, root=root)
    assert "\n" not in str(caught.value)
    assert not list(root.iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_a_download_that_fails_is_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=f"no {name} in .*neither {name}.npz nor") as caught:
        load(name, root=tmp_path, download=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_root_is_said(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=f"'{name}' needs a data root: set ROBUSTKIT_DATA"):
        load(name)
    with pytest.raises(DataError, match="absent"):
        load(name, root=tmp_path / "absent")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no idx file of unsigned bytes with 1 dim"),
        (struct.pack(">HBBI", 0, 13, 1, 40) + bytes(160), "is no idx file of unsigned bytes"),
        (struct.pack(">HBBI", 0, 8, 1, 40) + bytes(39), r"says \(40,\), but holds 39 bytes"),
        (struct.pack(">HBBI", 0, 8, 1, 39) + bytes(39), r"integers of shape \(40,\)"),
    ],
)
def test_broken_idx_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    write_mnist(tmp_path, "MNIST")
    (tmp_path / "MNIST" / "raw" / "train-labels-idx1-ubyte").write_bytes(content)
    with pytest.raises(DataError, match=f"train-labels-idx1-ubyte.*{message}"):
        load("mnist", root=tmp_path)
