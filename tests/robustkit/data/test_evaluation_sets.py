"""Evaluation sets: the same images as `load` has, sampled before anything is decoded."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from robustkit.data import evaluation_sets, load, open_evaluation, stratified_sample
from robustkit.data import pictures as picturefile
from robustkit.errors import ConfigError, DataError
from robustkit.geometry import Geometry
from tests.robustkit.data.conftest import WriteNpz
from tests.robustkit.data.pictures import draw_noise, flat_folder, published


@pytest.fixture
def opened_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the picture files that are opened, in their order."""
    seen: list[str] = []
    real: Callable[..., Any] = vars(picturefile)["open_bounded"]

    def recording(path: Path, **given: Any) -> Any:
        seen.append(Path(path).name)
        return real(path, **given)

    monkeypatch.setattr(picturefile, "open_bounded", recording)
    return seen


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_whole_split_equals_that_of_load(split: str, write_npz: WriteNpz) -> None:
    for source in ("digits", f"npz:{write_npz(train_track=np.arange(30) // 2)}"):
        opened = open_evaluation(source, split=split)
        expected = load(source).parts[split]
        read = opened.read()
        assert read.digest() == expected.digest()
        assert opened.shape() == expected.shape
        assert torch.equal(opened.indices, torch.arange(len(expected)))
        assert (read.tracks is None) == (expected.tracks is None)
        if read.tracks is not None and expected.tracks is not None:
            assert torch.equal(read.tracks, expected.tracks)


@pytest.mark.parametrize("split", ["test", "val"])
def test_a_sample_equals_that_of_the_whole_split(split: str) -> None:
    whole = load("digits").parts[split]
    opened = open_evaluation("digits", split=split, size=40, seed=3)
    chosen = stratified_sample(whole.labels, 40, 3)
    assert torch.equal(opened.indices, chosen)
    assert torch.equal(opened.labels, whole.labels[chosen])
    assert opened.read().digest() == whole.subset(chosen).digest()


def test_the_first_of_test_val_and_train_is_taken(tmp_path: Path) -> None:
    for part in ("test", "val", "train"):
        root = tmp_path / "pictures"
        for name in ("ant", "bee"):
            for seed in range(2):
                draw_noise(root / part / name / f"{seed}.png", seed)
    for part in ("test", "val", "train"):
        assert open_evaluation(f"folder:{root}").split == part
        (root / part).rename(tmp_path / part)


def test_only_headers_of_the_sample_are_read_and_only_it_is_decoded(
    tmp_path: Path, opened_files: list[str]
) -> None:
    flat_folder(tmp_path / "flat", 40)
    spec = f"images:{tmp_path / 'flat'}?labels=labels.csv&size=16"
    opened = open_evaluation(spec, size=8)
    assert opened_files == []
    names = {f"{index:03d}.png" for index in opened.indices.tolist()}
    assert opened.shape() == (3, 16, 16)
    assert set(opened_files) == names
    read = opened.read(classes=("a", "b", "c", "d"))
    assert set(opened_files) == names
    for place, index in enumerate(opened.indices.tolist()):
        file = tmp_path / "flat" / f"{index:03d}.png"
        assert torch.equal(read.images[place], published(file, 16, [16, 16], "bilinear"))
        assert read.labels[place] == index % 4


def test_a_broken_picture_matters_only_in_the_sample(tmp_path: Path) -> None:
    flat_folder(tmp_path, 12, size=(9, 9))
    spec = f"images:{tmp_path}?labels=labels.csv"
    inside = open_evaluation(spec, size=4).indices.tolist()
    outside = next(index for index in range(12) if index not in inside)
    (tmp_path / f"{outside:03d}.png").write_bytes(b"broken")
    assert len(open_evaluation(spec, size=4).read(classes=tuple("abcd"))) == 4
    (tmp_path / f"{inside[0]:03d}.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=rf"images:.*{inside[0]:03d}\.png cannot be decoded"):
        open_evaluation(spec, size=4).read(classes=tuple("abcd"))


def test_fewer_images_than_classes_are_a_plain_sample(tmp_path: Path) -> None:
    flat_folder(tmp_path, 20, classes=10, size=(9, 9))
    spec = f"images:{tmp_path}?labels=labels.csv"
    drawn = [open_evaluation(spec, size=3, seed=seed).indices.tolist() for seed in range(60)]
    assert drawn[0] == open_evaluation(spec, size=3, seed=0).indices.tolist()
    assert all(each == sorted(set(each)) and len(each) == 3 for each in drawn)
    assert set().union(*drawn) == set(range(20))  # every image has its chance
    assert open_evaluation(spec, size=9).notes == (
        "9 images are fewer than the classes: drawn without regard to class",
    )
    assert open_evaluation(spec, size=10).notes == ()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"size": 0}, DataError, "digits: a sample of 0 images was asked for; it takes at least"),
        ({"size": 448}, DataError, "digits: a sample of 448 images .* there are 447"),
        ({"split": "tests"}, ConfigError, "split must be test, val or train, not 'tests'"),
        ({"seed": -1}, ConfigError, "seed must be at least 0"),
    ],
)
def test_what_cannot_be_opened_is_said(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        open_evaluation("digits", **options)


def test_a_split_that_is_not_there_is_said(tmp_path: Path) -> None:
    flat_folder(tmp_path, 4)
    for split, word in (("train", "training"), ("val", "validation")):
        with pytest.raises(DataError, match=f"^images:.*: has no {word} split, which is needed"):
            open_evaluation(f"images:{tmp_path}?labels=labels.csv", split=split)


def test_different_sizes_need_a_geometry_from_somewhere(tmp_path: Path) -> None:
    flat_folder(tmp_path, 8)
    opened = open_evaluation(f"images:{tmp_path}?labels=labels.csv")
    assert opened.geometry is None
    with pytest.raises(DataError, match=r"one size is needed: add '\?size=.*'&size="):
        opened.shape()
    given = Geometry((20, 24), 26, "bicubic")
    assert opened.shape(given) == (3, 20, 24)
    read = opened.read(geometry=given, classes=tuple("abcd"))
    expected = published(tmp_path / "001.png", 26, [20, 24], "bicubic")
    assert torch.equal(read.images[1], expected)


def test_the_specs_geometry_comes_first(tmp_path: Path) -> None:
    flat_folder(tmp_path, 8)
    opened = open_evaluation(f"images:{tmp_path}?labels=labels.csv&size=16&resize=20")
    assert opened.geometry == Geometry((16, 16), 20)
    assert opened.shape(Geometry((9, 9))) == (3, 16, 16)
    assert opened.read(geometry=Geometry((9, 9)), classes=tuple("abcd")).shape == (3, 16, 16)


def test_grey_can_be_read_as_colour(tmp_path: Path) -> None:
    for name in ("ant", "bee"):
        draw_noise(tmp_path / "test" / name / "0.png", 0, size=(5, 5), mode="L")
    opened = open_evaluation(f"folder:{tmp_path}")
    grey, colour = opened.read(), opened.read(channels=3)
    assert grey.shape == (1, 5, 5)
    assert torch.equal(colour.images, grey.images.expand(-1, 3, -1, -1))
    assert open_evaluation("digits", size=10).read(channels=3).shape == (3, 16, 16)


def test_classes_are_given_where_the_set_does_not_know_them(tmp_path: Path) -> None:
    flat_folder(tmp_path, 8, size=(6, 6))
    opened = open_evaluation(f"images:{tmp_path}?labels=labels.csv")
    assert opened.classes is None
    assert opened.hints == {index: f"animal {index}" for index in range(4)}
    with pytest.raises(DataError, match=r"how many classes there are is not known; give their"):
        opened.read()
    with pytest.raises(DataError, match="test labels go up to 3, but 3 classes allow 0 to 2"):
        opened.read(classes=("a", "b", "c"))
    many = tuple(map(str, range(1000)))
    assert opened.read(classes=many).classes == many
    assert load(f"images:{tmp_path}?labels=labels.csv").classes == tuple(opened.hints.values())


def test_large_sets_are_decoded_once_into_the_cache_and_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened_files: list[str]
) -> None:
    flat_folder(tmp_path / "flat", 12)
    spec = f"images:{tmp_path / 'flat'}?labels=labels.csv&size=16"
    in_memory = open_evaluation(spec).read(classes=tuple("abcd"))
    monkeypatch.setattr(evaluation_sets, "IN_MEMORY", 12 * 3 * 16 * 16 - 1)
    mapped = open_evaluation(spec).read(classes=tuple("abcd"))
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert mapped.digest() == in_memory.digest()
    opened_files.clear()
    again = open_evaluation(spec).read(channels=3, classes=tuple("abcd"))
    assert again.digest() == in_memory.digest()
    assert len(opened_files) == 12  # for their headers; pixels are there
    resized = open_evaluation(spec + "&resize=20").read(classes=tuple("abcd"))
    assert resized.digest() != in_memory.digest()


MEASURED = """
import sys
from pathlib import Path
from robustkit.data import evaluation_sets, open_evaluation
evaluation_sets.IN_MEMORY = 4 * 2**20
def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
open_evaluation(sys.argv[1], size=20).read()  # starts the threads
for size in (100, 400):
    before = anonymous()
    images = open_evaluation(sys.argv[1], size=size).read()
    images.digest()
    print(anonymous() - before, images.images.nbytes // 1024)
"""


def test_memory_does_not_grow_with_the_set(tmp_path: Path) -> None:
    """Of 15 and 60 MB of pictures, neither takes memory of its own."""
    for number in range(400):
        folder = tmp_path / "flat" / "test" / str(number % 2)
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (224, 224), (number // 2, 0, 0)).save(folder / f"{number}.png")
    run = subprocess.run(
        [sys.executable, "-c", MEASURED, f"folder:{tmp_path / 'flat'}"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    for size, line in zip((100, 400), run.stdout.splitlines(), strict=True):
        anonymous, pixels = map(int, line.split())
        assert pixels == size * 3 * 224 * 224 // 1024
        assert anonymous < 10 * 1024, run.stdout


def test_a_small_sample_of_many_pictures_opens_no_others(
    tmp_path: Path, opened_files: list[str]
) -> None:
    draw_noise(tmp_path / "one.png", 0, size=(40, 30))
    count = 2_000
    for label in range(10):
        (tmp_path / "many" / "test" / f"{label}").mkdir(parents=True)
    rows = []
    for number in range(count):
        name = f"test/{number % 10}/{number}.png"
        os.link(tmp_path / "one.png", tmp_path / "many" / name)
        rows.append(f"{name},{number % 10}")
    (tmp_path / "many" / "labels.csv").write_text("filename,label\n" + "\n".join(rows))
    for spec in ("folder:{}?size=8", "images:{}?labels=labels.csv&size=8"):
        opened_files.clear()
        opened = open_evaluation(spec.format(tmp_path / "many"), size=50)
        assert len(opened.read(classes=tuple("0123456789"))) == 50
        assert 50 <= len(opened_files) <= 150
