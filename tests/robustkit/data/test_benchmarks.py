"""The benchmark sets: from a .npz of their name, or from made files in their original format."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from robustkit.data import load, open_evaluation
from robustkit.errors import DataError
from tests.robustkit.data.conftest import WriteNpz

NAMES = ("mnist", "fashion_mnist", "cifar10", "cifar100", "svhn", "gtsrb")


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


def write_cifar100(root: Path, names: tuple[str, ...] = ("train", "test")) -> None:
    """Two images of every class; the coarse label is another number, which must not be read."""
    folder = root / "cifar-100-binary"
    folder.mkdir(parents=True)
    for name in names:
        fine = np.repeat(np.arange(100, dtype=np.uint8), 2)[:, None]
        planes = np.repeat(np.array([[1, 2, 3]], dtype=np.uint8), 1024, axis=1)
        (folder / f"{name}.bin").write_bytes(np.hstack([fine // 5, fine, fine + planes]).tobytes())


def test_cifar100_is_read_by_its_fine_labels(tmp_path: Path) -> None:
    write_cifar100(tmp_path)
    splits = load("cifar100", root=tmp_path)
    assert splits.shape == (3, 32, 32)
    expected = splits.test.labels[:, None] + torch.tensor([1, 2, 3])
    assert torch.equal(splits.test.images[:, :, 0, 0].long(), expected)
    assert torch.bincount(splits.test.labels).tolist() == [2] * 100
    assert (splits.classes[0], splits.classes[53], splits.classes[99]) == (
        "apple",
        "orange",
        "worm",
    )
    assert list(splits.classes) == sorted(splits.classes)
    assert len(set(splits.classes)) == 100


def test_a_cut_cifar100_file_is_named(tmp_path: Path) -> None:
    write_cifar100(tmp_path)
    path = tmp_path / "cifar-100-binary" / "test.bin"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(DataError, match=r"test\.bin has 614793 bytes, not a multiple of 3074"):
        load("cifar100", root=tmp_path)


@pytest.mark.parametrize(
    ("name", "folder", "test"),
    [
        ("cifar10", "cifar-10-batches-bin", "test_batch.bin"),
        ("cifar100", "cifar-100-binary", "test.bin"),
    ],
)
def test_the_test_file_alone_is_enough_to_evaluate(
    tmp_path: Path, name: str, folder: str, test: str
) -> None:
    {"cifar10": write_cifar10, "cifar100": write_cifar100}[name](tmp_path)
    whole = load(name, root=tmp_path).test.digest()
    for path in (tmp_path / folder).iterdir():
        if path.name != test:
            path.unlink()
    assert open_evaluation(name, root=tmp_path).read().digest() == whole
    with pytest.raises(DataError, match=f"{name}: has no training split"):
        _ = load(name, root=tmp_path).train


def test_some_training_files_are_not_enough(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    (tmp_path / "cifar-10-batches-bin" / "data_batch_4.bin").unlink()
    with pytest.raises(DataError, match=r"no cifar10 in .*data_batch_4\.bin"):
        open_evaluation("cifar10", root=tmp_path)


def write_svhn(folder: Path, names: tuple[str, ...] = ("train", "test")) -> None:
    """Digits 1 to 10, as the files have them: each image has its digit in all pixels."""
    from scipy.io import savemat

    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        digits = np.tile(np.arange(1, 11, dtype=np.uint8), 3)
        images = np.broadcast_to(digits, (32, 32, 3, 30)) + np.arange(3, dtype=np.uint8)[:, None]
        savemat(folder / f"{name}_32x32.mat", {"X": images, "y": digits[:, None]})


@pytest.mark.parametrize("below", ["svhn", "."])
def test_svhn_is_read_from_its_mat_files(tmp_path: Path, below: str) -> None:
    write_svhn(tmp_path / below)
    splits = load("svhn", root=tmp_path)
    assert splits.shape == (3, 32, 32)
    digits = splits.test.images[:, 0, 3, 4].long()
    assert torch.equal(digits % 10, splits.test.labels)
    assert splits.test.labels[9] == 0
    assert torch.equal(splits.test.images[:, 2, 3, 4].long(), digits + 2)
    assert splits.classes == tuple("0123456789")


def test_one_svhn_file_is_one_part(tmp_path: Path) -> None:
    write_svhn(tmp_path, ("test",))
    assert tuple(load("svhn", root=tmp_path).parts) == ("test",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": np.zeros((32, 32, 3, 4), np.uint8)}, "has no array 'y'"),
        ({"X": np.zeros((32, 3, 32, 4), np.uint8), "y": np.ones(4)}, r"X is \(32, 3, 32, 4\)"),
        ({"X": np.zeros((32, 32, 3, 4)), "y": np.ones(4, int)}, "X must be uint8"),
        ({"X": np.zeros((32, 32, 3, 4), np.uint8), "y": np.ones(3, int)}, r"shape \(4,\)"),
        (b"no such file", r"cannot be read as a \.mat file"),
        (b"", r"cannot be read as a \.mat file"),
    ],
)
def test_a_bad_svhn_file_is_named(
    tmp_path: Path, change: dict[str, np.ndarray] | bytes, message: str
) -> None:
    from scipy.io import savemat

    path = tmp_path / "test_32x32.mat"
    if isinstance(change, bytes):
        path.write_bytes(change)
    else:
        savemat(path, change)
    with pytest.raises(DataError, match=rf"test_32x32\.mat.*{message}") as caught:
        load("svhn", root=tmp_path)
    assert "\n" not in str(caught.value)


def write_cifar10c(root: Path, names: tuple[str, ...], count: int = 20) -> Path:
    """Red is the severity, green the corruption, blue the image's number."""
    folder = root / "CIFAR-10-C"
    folder.mkdir(parents=True)
    for place, name in enumerate(names):
        images = np.zeros((5, count, 32, 32, 3), np.uint8)
        images[..., 0] = np.arange(1, 6)[:, None, None, None]
        images[..., 1] = place
        images[..., 2] = np.arange(count)[:, None, None]
        np.save(folder / f"{name}.npy", images.reshape(-1, 32, 32, 3))
    np.save(folder / "labels.npy", np.tile(np.arange(count) % 10, 5).astype(np.uint8))
    return folder


def test_cifar10c_has_the_corruptions_that_are_there(tmp_path: Path) -> None:
    # `saturate` is none of the benchmark's.
    write_cifar10c(tmp_path, ("fog", "gaussian_noise", "saturate"))
    opened = open_evaluation("cifar10c", root=tmp_path)
    assert opened.split == "test"
    assert opened.notes == ("corruptions at severity 5: gaussian_noise, fog",)
    read = opened.read()
    assert read.shape == (3, 32, 32)
    assert (read.images[:, 0] == 5).all()
    assert read.images[:, 1, 0, 0].tolist() == [1] * 20 + [0] * 20
    assert read.images[:, 2, 7, 9].tolist() == list(range(20)) * 2
    assert read.labels.tolist() == [number % 10 for number in range(20)] * 2
    assert load("cifar10c", root=tmp_path).test.digest() == read.digest()
    with pytest.raises(DataError, match="cifar10c: has no training split"):
        open_evaluation("cifar10c", root=tmp_path, split="train")


def test_cifar10c_takes_a_corruption_and_a_severity(tmp_path: Path) -> None:
    write_cifar10c(tmp_path, ("fog", "gaussian_noise", "saturate"))
    spec = "cifar10c?corruption=saturate,fog&severity=2"
    opened = open_evaluation(spec, root=tmp_path, size=10, seed=4)
    read = opened.read()
    assert (read.images[:, 0] == 2).all()
    places = torch.where(opened.indices < 20, 2, 0)  # saturate was asked for first
    assert torch.equal(read.images[:, 1, 0, 0].long(), places)
    assert torch.equal(read.images[:, 2, 0, 0].long(), opened.indices % 20)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("?severity=6", "severity must be from 1 to 5, not '6'"),
        ("?severity=0", "severity must be"),
        ("?corruption=fogg", "unknown corruption 'fogg'; did you mean 'fog'"),
        ("?corruption=fog,fog", "'fog' is named twice"),
        ("?corruption=snow", r"snow\.npy: No such file"),
        ("?corruptions=fog", "unknown option 'corruptions'; did you mean 'corruption'"),
    ],
)
def test_a_corruption_that_cannot_be_is_refused(tmp_path: Path, options: str, message: str) -> None:
    write_cifar10c(tmp_path, ("fog",))
    with pytest.raises(DataError, match=message) as caught:
        open_evaluation(f"cifar10c{options}", root=tmp_path)
    assert "\n" not in str(caught.value)


def test_bad_cifar10c_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'cifar10c' needs a data root"):
        open_evaluation("cifar10c")
    with pytest.raises(DataError, match=r"no cifar10c in .*: no folder CIFAR-10-C"):
        open_evaluation("cifar10c", root=tmp_path)
    folder = write_cifar10c(tmp_path, ())
    with pytest.raises(
        DataError, match=r"has no file of a corruption, such as gaussian_noise\.npy"
    ):
        open_evaluation("cifar10c", root=tmp_path)
    np.save(folder / "fog.npy", np.zeros((100, 3, 32, 32), np.uint8))
    with pytest.raises(
        DataError, match=r"fog\.npy is uint8 \(100, 3, 32, 32\), not uint8 \(100, 32"
    ):
        open_evaluation("cifar10c", root=tmp_path)
    np.save(folder / "fog.npy", np.array([None]), allow_pickle=True)
    with pytest.raises(DataError, match=r"fog\.npy cannot be read as a whole \.npy"):
        open_evaluation("cifar10c", root=tmp_path)
    np.save(folder / "labels.npy", np.zeros(3, int))
    with pytest.raises(DataError, match=r"labels\.npy is \(3,\)"):
        open_evaluation("cifar10c", root=tmp_path)
