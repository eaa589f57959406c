from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from robustkit.data import load
from robustkit.errors import DataError


def draw(path: Path, value: int | tuple[int, int, int] = 0, size: tuple[int, int] = (6, 5)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L" if isinstance(value, int) else "RGB", size, value).save(path)


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """Only class folders: ten grey images each, their value being 100·class + number."""
    root = tmp_path / "plain"
    for label, name in enumerate(("ant", "bee")):
        for number in range(10):
            draw(root / name / f"{number}.png", 100 * label + number)
    return root


@pytest.fixture
def divided(tmp_path: Path) -> Path:
    """Train and test folders of colour images, six and two per class."""
    root = tmp_path / "divided"
    for label, name in enumerate(("ant", "bee")):
        for number in range(6):
            draw(root / "train" / name / f"{number}.png", (label, number, 0))
        for number in range(2):
            draw(root / "test" / name / f"{number}.png", (label, number, 255))
    return root


def test_class_folders_are_divided_into_three(classes: Path) -> None:
    splits = load(f"folder:{classes}")
    sizes = [
        torch.bincount(part.labels).tolist() for part in (splits.train, splits.val, splits.test)
    ]
    assert sizes == [[7, 7], [1, 1], [2, 2]]
    assert splits.train.shape == (1, 5, 6)
    assert splits.train.classes == ("ant", "bee")
    values = [part.images[:, 0, 0, 0].long() for part in (splits.train, splits.val, splits.test)]
    assert sorted(torch.cat(values).tolist()) == [*range(10), *range(100, 110)]
    for part, value in zip((splits.train, splits.val, splits.test), values, strict=True):
        assert torch.equal(value // 100, part.labels)


def test_the_test_split_depends_on_no_seed(classes: Path) -> None:
    digests = {load(f"folder:{classes}", seed=seed).test.digest() for seed in range(3)}
    assert len(digests) == 1


def test_train_and_test_folders_are_kept_apart(divided: Path) -> None:
    splits = load(f"folder:{divided}")
    assert splits.test.images[:, :, 0, 0].tolist() == [
        [0, 0, 255],
        [0, 1, 255],
        [1, 0, 255],
        [1, 1, 255],
    ]
    assert splits.test.labels.tolist() == [0, 0, 1, 1]
    assert (splits.train.images[:, 2] == 0).all()
    assert len(splits.train) + len(splits.val) == 12


def test_only_images_that_are_used_are_decoded(classes: Path) -> None:
    whole = load(f"folder:{classes}", train_size=4)
    kept = set(whole.train.images[:, 0, 0, 0].tolist())
    unused = next(
        path
        for path in sorted(classes.rglob("*.png"))
        if np.asarray(Image.open(path))[0, 0]
        not in kept
        | set(whole.val.images[:, 0, 0, 0].tolist())
        | set(whole.test.images[:, 0, 0, 0].tolist())
    )
    unused.write_bytes(unused.read_bytes()[:43])  # the header is whole, the pixels are cut off
    assert load(f"folder:{classes}", train_size=4).train.digest() == whole.train.digest()
    with pytest.raises(DataError, match=f"{unused.name} cannot be decoded"):
        load(f"folder:{classes}")


def test_other_and_hidden_files_do_not_count(classes: Path) -> None:
    before = load(f"folder:{classes}").train.digest()
    (classes / "ant" / "notes.txt").write_text("not an image")
    (classes / "ant" / ".hidden.png").write_bytes(b"not an image")
    (classes / ".cache").mkdir()
    assert load(f"folder:{classes}").train.digest() == before


def test_one_colour_image_makes_all_of_them_rgb(classes: Path) -> None:
    draw(classes / "ant" / "0.png", (9, 8, 7))
    splits = load(f"folder:{classes}")
    assert splits.train.shape == (3, 5, 6)
    pixels = torch.cat([part.images for part in (splits.train, splits.val, splits.test)])[
        :, :, 0, 0
    ]
    assert [9, 8, 7] in pixels.tolist()
    assert [1, 1, 1] in pixels.tolist()


def test_mixed_sizes_are_refused_unless_resized(classes: Path) -> None:
    draw(classes / "bee" / "5.png", 255, size=(12, 7))
    with pytest.raises(DataError, match=r"5\.png is 12x7 .*0\.png is 6x5; .*'\?size=5'"):
        load(f"folder:{classes}")
    splits = load(f"folder:{classes}?size=8")
    assert splits.train.shape == (1, 8, 8)


def test_a_size_keeps_the_aspect_and_crops_unless_told_to_stretch(classes: Path) -> None:
    for path in classes.rglob("*.png"):
        wide = Image.new("L", (12, 6))
        wide.paste(255, (3, 0, 9, 6))  # the middle square is white
        wide.save(path)
    assert (load(f"folder:{classes}?size=6").test.images == 255).all()
    assert (load(f"folder:{classes}?size=6&resize=stretch").test.images == 0).any()
    assert load(f"folder:{classes}?size=4x8").train.shape == (1, 4, 8)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("width=3", "unknown option 'width'.*known: interpolation, resize, size"),
        ("size=big", "size=big is no size in pixels"),
        ("size=8&size=9", "'size' is given twice"),
        ("", "expected key=value"),
    ],
)
def test_unknown_options_are_refused(classes: Path, option: str, message: str) -> None:
    with pytest.raises(DataError, match=f"folder:.*{message}"):
        load(f"folder:{classes}?{option}")


def test_missing_and_empty_folders_are_named(tmp_path: Path, classes: Path) -> None:
    with pytest.raises(DataError, match=r"no such folder: .*absent"):
        load(f"folder:{tmp_path / 'absent'}")
    (tmp_path / "bare").mkdir()
    with pytest.raises(DataError, match="bare has no class folders"):
        load(f"folder:{tmp_path / 'bare'}")
    (classes / "cow").mkdir()
    with pytest.raises(DataError, match="cow holds no image"):
        load(f"folder:{classes}")


def test_classes_of_one_image_are_for_testing_alone(tmp_path: Path) -> None:
    for label, name in enumerate(("ant", "bee")):
        draw(tmp_path / "few" / name / "0.png", label)
    splits = load(f"folder:{tmp_path / 'few'}")
    assert splits.test.labels.tolist() == [0, 1]
    with pytest.raises(
        DataError, match=r"few: has no training split, which is needed here; .*test"
    ):
        _ = splits.train


def test_classes_of_one_image_cannot_be_divided(tmp_path: Path) -> None:
    for label, name in enumerate(("ant", "bee")):
        draw(tmp_path / "few" / "train" / name / "0.png", label)
    with pytest.raises(DataError, match=r"few: an empty split: no class has two images"):
        load(f"folder:{tmp_path / 'few'}")


def test_one_class_only_is_refused(tmp_path: Path) -> None:
    for number in range(5):
        draw(tmp_path / "one" / "ant" / f"{number}.png")
    with pytest.raises(DataError, match="only one class"):
        load(f"folder:{tmp_path / 'one'}")


def test_unclear_layouts_are_refused(divided: Path) -> None:
    draw(divided / "test" / "cow" / "0.png", (0, 0, 0))
    with pytest.raises(DataError, match="test has the class 'cow', which train has not"):
        load(f"folder:{divided}")
    shutil.rmtree(divided / "test" / "cow")
    draw(divided / "cow" / "0.png", (0, 0, 0))
    with pytest.raises(DataError, match="cow, test, train; either only train, val and test"):
        load(f"folder:{divided}")
    shutil.rmtree(divided / "cow")
    (divided / "val").mkdir()
    with pytest.raises(DataError, match="val has no class folders"):
        load(f"folder:{divided}")


def test_validation_images_of_its_own_are_taken_as_they_are(divided: Path) -> None:
    for label, name in enumerate(("ant", "bee")):
        draw(divided / "val" / name / "0.png", (label, 77, 77))
    splits = load(f"folder:{divided}", val_fraction=0.5)
    assert splits.val.images[:, 1, 0, 0].tolist() == [77, 77]
    assert [len(part) for part in splits.parts.values()] == [12, 2, 4]
    small = load(f"folder:{divided}", train_size=4)
    assert len(small.train) == 4
    assert small.val.digest() == splits.val.digest()


@pytest.mark.parametrize("there", [("val",), ("test", "val"), ("train",), ("test",)])
def test_any_of_the_three_parts_is_enough(divided: Path, there: tuple[str, ...]) -> None:
    for label, name in enumerate(("ant", "bee")):
        draw(divided / "val" / name / "0.png", (label, 77, 77))
    for part in {"train", "val", "test"} - set(there):
        shutil.rmtree(divided / part)
    splits = load(f"folder:{divided}")
    assert set(splits.parts) == set(there) | ({"val"} if "train" in there else set())
    assert splits.classes == ("ant", "bee")


def test_classes_come_from_the_parts_that_are_there(divided: Path) -> None:
    shutil.rmtree(divided / "train")
    draw(divided / "val" / "cow" / "0.png", (0, 0, 0))
    splits = load(f"folder:{divided}")
    assert splits.classes == ("ant", "bee", "cow")
    assert splits.val.labels.tolist() == [2]
    assert splits.test.labels.tolist() == [0, 0, 1, 1]


def test_an_empty_test_folder_is_an_empty_split(divided: Path) -> None:
    for path in (divided / "test").rglob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match="empty split: no test images"):
        load(f"folder:{divided}")


def test_broken_and_deep_images_are_named(classes: Path) -> None:
    broken = classes / "bee" / "3.png"
    Image.fromarray(np.zeros((5, 6), np.uint16)).save(broken)
    with pytest.raises(DataError, match=r"3\.png has mode I;16; 8 bits"):
        load(f"folder:{classes}")
    broken.write_bytes(b"no image at all")
    with pytest.raises(DataError, match=r"3\.png cannot be decoded"):
        load(f"folder:{classes}")


def test_what_memory_cannot_hold_is_mapped(
    classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_memory = load(f"folder:{classes}")
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=100))
    mapped = load(f"folder:{classes}")
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    assert len(written) == 3
    for part in ("train", "val", "test"):
        assert getattr(mapped, part).digest() == getattr(in_memory, part).digest()
    load(f"folder:{classes}")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()} == written


def test_a_changed_file_is_decoded_again(classes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=0))
    before = load(f"folder:{classes}").test
    for path in classes.rglob("*.png"):
        draw(path, 77, size=(6, 5))
    after = load(f"folder:{classes}").test
    assert (after.images == 77).all()
    assert before.digest() != after.digest()
