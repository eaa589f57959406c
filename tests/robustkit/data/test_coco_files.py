"""Boxes in COCO's JSON, and what is wrong with them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from PIL import Image

from robustkit.data.detection import load_detection, read_coco
from robustkit.errors import DataError


@pytest.fixture
def coco(tmp_path: Path) -> tuple[Path, Path, dict[str, list[dict[str, object]]]]:
    images = tmp_path / "images"
    images.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (30, 20)).save(images / name)
    content: dict[str, list[dict[str, object]]] = {
        "images": [
            {"id": 7, "file_name": "b.png", "width": 30, "height": 20},
            {"id": 3, "file_name": "a.png"},
        ],
        "categories": [{"id": 9, "name": "zebra"}, {"id": 2, "name": "ant"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 9, "bbox": [1, 2, 3.5, 4], "iscrowd": 1},
            {"id": 2, "image_id": 7, "category_id": 2, "bbox": [0, 0, 30, 20], "area": 55.5},
        ],
    }
    return images, tmp_path / "it.json", content


def test_coco_is_read_in_the_order_of_ids(
    coco: tuple[Path, Path, dict[str, list[dict[str, object]]]],
) -> None:
    images, file, content = coco
    file.write_text(json.dumps(content))
    found = load_detection(f"coco:{images}:{file}")
    assert found.classes == ("ant", "zebra")
    assert found.ids == ("b.png", "a.png")
    first, empty = found.truths
    assert first.boxes.tolist() == [[1, 2, 4.5, 6], [0, 0, 30, 20]]
    assert first.labels.tolist() == [1, 0]
    assert first.crowd.tolist() == [True, False]
    assert first.area.tolist() == [14, 55.5]
    assert len(first.trained_on()) == 1
    assert len(empty) == 0


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (
            "annotations",
            [{"id": 5, "image_id": 7, "category_id": 1, "bbox": [1, 1, 2, 2]}],
            "5: unk",
        ),
        (
            "annotations",
            [{"id": 5, "image_id": 7, "category_id": 2, "bbox": [1, 1, 0, 2]}],
            "no are",
        ),
        (
            "annotations",
            [{"id": 5, "image_id": 7, "category_id": 2, "bbox": [1, 1, 2]}],
            "bbox must",
        ),
        ("annotations", [{"id": 5, "image_id": 7, "category_id": 2}], "lacks 'bbox'"),
        (
            "annotations",
            [{"id": 5, "image_id": 8, "category_id": 2, "bbox": [1, 1, 2, 2]}],
            "image 8",
        ),
        (
            "annotations",
            [{"id": 5, "image_id": 7, "category_id": 2, "bbox": [1, 1, 2, 2], "area": math.nan}],
            r"it\.json: not JSON",
        ),
        (
            "annotations",
            [{"id": 5, "image_id": 7, "category_id": 2, "bbox": [1, 1, 2, 2], "iscrowd": "no"}],
            "5: iscrowd must be 0 or 1",
        ),
        ("categories", [{"id": "9", "name": "ant"}], "a whole id and a name"),
        ("categories", [{"id": 9, "name": ""}], "a whole id and a name"),
        ("annotations", {}, "must be a list"),
        ("categories", [{"id": 9, "name": "ant"}, {"id": 2, "name": "ant"}], "of one name"),
        ("images", [{"id": 7, "file_name": "c.png"}], r"c\.png: no such image"),
        ("images", [{"id": 7, "file_name": "../it.json"}], "lies outside"),
        ("images", [{"id": 7, "file_name": "a.png"}, {"id": 7, "file_name": "b.png"}], "twice"),
    ],
)
def test_coco_files_that_do_not_fit(
    coco: tuple[Path, Path, dict[str, list[dict[str, object]]]],
    key: str,
    value: list[dict[str, object]],
    said: str,
) -> None:
    images, file, content = coco
    file.write_text(json.dumps({**content, key: value}))
    with pytest.raises(DataError, match=said):
        read_coco(images, file)


def test_coco_files_that_are_none(tmp_path: Path) -> None:
    file = tmp_path / "it.json"
    with pytest.raises(DataError, match="No such file"):
        read_coco(tmp_path, file)
    for text, said in (("{", "not JSON"), ("[]", "expected an object"), ("[" * 99999, "nested")):
        file.write_text(text)
        with pytest.raises(DataError, match=said):
            read_coco(tmp_path, file)
