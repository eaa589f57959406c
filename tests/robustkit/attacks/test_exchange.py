"""Sets go out and come back the same; what is no set of these images is refused by name."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from robustkit.attacks import PGD, craft, export_npz, export_png, import_npz, to_levels
from robustkit.data import ImageSet
from robustkit.errors import AttackError
from tests.robustkit.attacks.nets import classifier, striped

IMAGES = striped(5)


def test_an_npz_comes_back_the_same_with_its_provenance(tmp_path: Path) -> None:
    made = craft(classifier(), IMAGES, PGD(eps=0.2))
    export_npz(made, IMAGES, tmp_path / "set.npz")
    found = import_npz(tmp_path / "set.npz", IMAGES)
    assert torch.equal(found.images, made.images)
    assert found.provenance["attack"]["name"] == "pgd"
    assert found.provenance["source"] == made.origin["source"]
    assert len(found.provenance["sha256"]) == 64
    with np.load(tmp_path / "set.npz", allow_pickle=False) as arrays:
        assert arrays["labels"].tolist() == IMAGES.labels.tolist()
        assert arrays["fooled"].tolist() == made.fooled.tolist()


def test_pictures_are_rounded_not_cut_off(tmp_path: Path) -> None:
    values = torch.tensor([0.0, 0.4999 / 255, 0.5001 / 255, 1.7 / 255, 254.6 / 255, 1.0])
    assert to_levels(values).tolist() == [0, 0, 1, 2, 255, 255]
    made = craft(classifier(), IMAGES, PGD(eps=0.2))
    export_png(made, IMAGES, tmp_path / "pictures")
    pixels = np.stack(
        [np.asarray(Image.open(tmp_path / "pictures" / f"{i:05}.png")) for i in range(5)]
    )
    assert np.array_equal(pixels, np.round(made.images[:, 0].numpy() * 255))
    rows = list(csv.DictReader((tmp_path / "pictures" / "index.csv").open()))
    assert [row["class"] for row in rows] == [IMAGES.classes[label] for label in IMAGES.labels]
    assert [row["fooled"] for row in rows] == [str(bool(each)) for each in made.fooled]
    provenance = json.loads((tmp_path / "pictures" / "provenance.json").read_text())
    assert provenance == made.origin


def test_colour_pictures_have_their_colours(tmp_path: Path) -> None:
    pixels = torch.randint(0, 256, (2, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    images = ImageSet(pixels.to(torch.uint8), torch.tensor([0, 1]), ("a", "b"))
    from robustkit.models import build

    net = build("small", num_classes=2, in_channels=3, image_size=8, width=2, seed=0)
    made = craft(net, images, PGD(eps=0.0))
    export_png(made, images, tmp_path / "pictures")
    shown = np.asarray(Image.open(tmp_path / "pictures" / "00001.png"))
    assert np.array_equal(shown.transpose(2, 0, 1), pixels[1].numpy())


def test_sets_of_other_tools_may_be_bytes_and_channels_last(tmp_path: Path) -> None:
    path = tmp_path / "theirs.npz"
    np.savez(path, images=IMAGES.images.numpy().transpose(0, 2, 3, 1))
    found = import_npz(path, IMAGES)
    assert torch.equal(found.images, IMAGES.images)
    assert found.provenance["file"] == "theirs.npz"


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"pictures": np.zeros(3)}, "no array 'images'; it has pictures"),
    ({"images": np.zeros((5, 1, 8, 9), np.float32)}, r"shape \(5, 1, 8, 9\), not \(5, 1, 8, 8\)"),
    ({"images": np.full((5, 1, 8, 8), 2.0)}, r"over \[2, 2\], not in \[0,1\]"),
    ({"images": np.full((5, 1, 8, 8), np.nan)}, r"not in \[0,1\]"),
    ({"images": np.zeros((5, 1, 8, 8), np.int64)}, "images of int64"),
    ({"images": IMAGES.images.numpy(), "labels": np.zeros(5)}, "its labels are not those"),
    ({"images": IMAGES.images.numpy(), "provenance": np.array("{")}, "'provenance': not JSON"),
    ({"images": np.array([{}], dtype=object)}, "Python objects"),
]


@pytest.mark.parametrize(("arrays", "message"), WRONG)
def test_what_is_no_set_of_these_images_is_refused(
    tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    path = tmp_path / "wrong.npz"
    np.savez(path, **arrays)
    with pytest.raises(AttackError, match=message) as caught:
        import_npz(path, IMAGES)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(AttackError, match=r"none\.npz: No such file"):
        import_npz(tmp_path / "none.npz", IMAGES)
    path = tmp_path / "half.npz"
    export_npz(craft(classifier(), IMAGES, PGD()), IMAGES, path)
    whole = path.read_bytes()
    for part in (b"", whole[: len(whole) // 2], b"text"):
        path.write_bytes(part)
        with pytest.raises(AttackError, match=r"half\.npz"):
            import_npz(path, IMAGES)


@pytest.fixture
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is small enough for memory, and chunks hold one image."""
    monkeypatch.setattr("robustkit.attacks.files.SMALL_SETS", -1)
    monkeypatch.setattr("robustkit.attacks.files.CHUNK", 64)


@pytest.mark.parametrize("kind", [np.uint8, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.usefixtures("everything_is_large")
def test_large_sets_are_read_from_the_disk(tmp_path: Path, kind: Any, last: bool) -> None:
    pixels = IMAGES.images.numpy() if kind is np.uint8 else (IMAGES.floats().numpy()).astype(kind)
    path = tmp_path / "large.npz"
    given = pixels.transpose(0, 2, 3, 1) if last else np.asfortranarray(pixels)
    np.savez_compressed(path, images=given, labels=IMAGES.labels.numpy())
    found = import_npz(path, IMAGES)
    expected = pixels if kind is np.uint8 else pixels.astype(np.float32)
    assert np.array_equal(found.images.numpy(), expected)
    assert found.images.dtype == (torch.uint8 if kind is np.uint8 else torch.float32)


@pytest.mark.parametrize(("arrays", "message"), WRONG)
@pytest.mark.usefixtures("everything_is_large")
def test_what_is_no_large_set_is_refused(
    tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    np.savez(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(AttackError, match=message):
        import_npz(tmp_path / "wrong.npz", IMAGES)


def test_an_archive_that_unfolds_to_more_than_these_images_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, images=np.zeros(40 * 2**20, np.uint8))
    with pytest.raises(AttackError, match="'images' takes 41,943,168 bytes, too many"):
        import_npz(path, IMAGES)


def test_rounded_sets_go_out_as_the_levels_they_are(tmp_path: Path) -> None:
    made = craft(classifier(), IMAGES, PGD(eps=8 / 255), round=True)
    assert made.images.dtype == torch.uint8
    export_npz(made, IMAGES, tmp_path / "set.npz")
    assert torch.equal(import_npz(tmp_path / "set.npz", IMAGES).images, made.images)
    export_png(made, IMAGES, tmp_path / "pictures")
    shown = np.asarray(Image.open(tmp_path / "pictures" / "00003.png"))
    assert np.array_equal(shown, made.images[3, 0].numpy())
    assert torch.equal(to_levels(made.images), made.images)
