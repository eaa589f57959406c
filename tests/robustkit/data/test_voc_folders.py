"""Images with boxes: a folder as VOC and Clipart1k lay it out, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from robustkit.data.detection import SIX, VOC, DetectionSet, load_detection, read_voc
from robustkit.data.detection.sets import read_colour
from robustkit.errors import DataError

ANNOTATION = """<annotation>
  <folder>VOC2007</folder>
  <filename>{name}.jpg</filename>
  <source><database>The VOC2007 Database</database><annotation>PASCAL VOC2007</annotation></source>
  <size><width>50</width><height>40</height><depth>3</depth></size>
  <segmented>0</segmented>
{objects}</annotation>
"""
OBJECT = """  <object>
    <name>{name}</name><pose>Left</pose><truncated>{truncated}</truncated>
    <difficult>{difficult}</difficult>
    <bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox>
{parts}  </object>
"""
PART = (
    "    <part><name>head</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>5</xmax>"
    "<ymax>6</ymax></bndbox></part>\n"
)


def entry(name: str, *box: float, difficult: int = 0, truncated: int = 0, parts: str = "") -> str:
    x1, y1, x2, y2 = box
    return OBJECT.format(
        name=name, x1=x1, y1=y1, x2=x2, y2=y2, difficult=difficult, truncated=truncated, parts=parts
    )


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """VOC2007 as its archives unpack: two images in train, one in test, one of them empty."""
    folder = tmp_path / "VOC2007"
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    objects = {
        "000001": entry("dog", 1, 1, 20, 40, difficult=1)
        + entry("person", 8.5, 12, 50, 40, truncated=1, parts=PART),
        "000002": "",
        "000003": entry("tvmonitor", 10, 10, 10, 12),
    }
    rng = np.random.default_rng(0)
    for name, told in objects.items():
        pixels = rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "JPEGImages" / f"{name}.jpg")
        file = folder / "Annotations" / f"{name}.xml"
        file.write_text(ANNOTATION.format(name=name, objects=told))
    splits = {"train": "000001\n000002\n", "test": "000003\n", "dog_train": "000001  1\n"}
    for name, listed in splits.items():
        (folder / "ImageSets" / "Main" / f"{name}.txt").write_text(listed)
    return folder


def test_classes_can_be_chosen(voc: Path) -> None:
    found = load_detection(f"voc:{voc}:train?classes=person,dog")
    assert found.classes == ("person", "dog")
    assert found.truths[0].labels.tolist() == [1, 0]
    assert load_detection(f"voc:{voc}:train?classes=person").truths[0].labels.tolist() == [0]
    for listed, said in (
        ("persn", "no class 'persn'; did you mean 'person'"),
        ("dog,dog", "class 'dog' twice"),
        ("", "no class ''"),
    ):
        with pytest.raises(DataError, match=said):
            load_detection(f"voc:{voc}:train?classes={listed}")


def test_images_once_read_are_kept_as_far_as_they_fit() -> None:
    reads: list[int] = []

    def read(index: int) -> torch.Tensor:
        reads.append(index)
        return torch.full((3, 2, 2), index, dtype=torch.uint8)  # 12 bytes

    whole = load_detection("shapes:photo:3?side=64", "train")
    kept = replace(whole, read=read).remembered(limit=30)
    for _ in range(2):
        assert [int(kept.image(index)[0, 0, 0]) for index in range(3)] == [0, 1, 2]
    assert reads == [0, 1, 2, 2]


def test_a_voc_folder_is_read_as_it_comes(voc: Path) -> None:
    found = load_detection(f"voc:{voc}:train")
    assert found.classes == VOC
    assert found.ids == ("000001", "000002")
    first, empty = found.truths
    # Counted from 1 in the file, the last pixel included: far edges stay.
    assert first.boxes.tolist() == [[0, 0, 20, 40], [7.5, 11, 50, 40]]
    assert [VOC[label] for label in first.labels] == ["dog", "person"]  # a part is no object
    assert first.difficult.tolist() == [True, False]
    assert first.area.tolist() == [800, 42.5 * 29]
    assert len(empty) == 0
    assert empty.boxes.shape == (0, 4)
    assert found.image(1).shape == (3, 40, 50)
    assert found.image(1).dtype == torch.uint8


def test_splits_can_be_joined_and_all_is_both(voc: Path) -> None:
    assert read_voc(voc, "train+test").ids == read_voc(voc, "all").ids
    assert len(read_voc(voc, "all")) == 3
    (voc / "ImageSets/Main/all.txt").write_text("000003\n")
    assert read_voc(voc, "all").ids == ("000003",)
    assert read_voc(voc, "dog_train").ids == ("000001",)


def test_a_box_of_one_pixel_has_an_area(voc: Path) -> None:
    (only,) = read_voc(voc, "test").truths
    assert only.boxes.tolist() == [[9, 9, 10, 12]]


@pytest.mark.parametrize(
    ("name", "classes"), [("clipart", VOC), ("watercolor", SIX), ("Comic2k", SIX)]
)
def test_class_orders_of_the_published_sets(voc: Path, name: str, classes: tuple[str, ...]) -> None:
    moved = voc.rename(voc.with_name(name))
    (moved / "ImageSets/Main/none.txt").write_text("000002\n")
    assert read_voc(moved, "none").classes == classes


def test_a_folder_may_list_its_own_classes(voc: Path) -> None:
    (voc / "classes.txt").write_text("person\ndog\n\ntvmonitor\n")
    found = read_voc(voc, "train")
    assert found.classes == ("person", "dog", "tvmonitor")
    assert found.truths[0].labels.tolist() == [1, 0]
    (voc / "classes.txt").write_text("person\nperson\n")
    with pytest.raises(DataError, match="one class a line, each once"):
        read_voc(voc, "train")


def broken(change: Callable[[Path], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        change(folder)

    return apply


def write(objects: str) -> Callable[[Path], object]:
    text = ANNOTATION.format(name="000001", objects=objects)
    return lambda folder: (folder / "Annotations/000001.xml").write_text(text)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            write(entry("god", 1, 1, 5, 5)),
            r"000001\.xml: object 1 \(god\): unknown class 'god'.*dog",
        ),
        (write(entry("dog", 5, 5, 4, 9)), r"object 1 \(dog\): box \(4, 4, 4, 9\) has no area"),
        (write(entry("dog", 5, 5, 60, 9)), r"leaves the image of 50 x 40 pixels"),
        (write(entry("dog", -3, 5, 6, 9)), r"leaves the image of 50 x 40 pixels"),
        (write("  <object><name>dog</name></object>\n"), r"object 1 \(dog\): no bndbox"),
        (
            write(entry("dog", 1, 1, 5, 5).replace("<xmin>1<", "<xmin>a<")),
            "xmin: expected a number",
        ),
        (write(entry("dog", 1, 1, float("nan"), 5)), "is not finite"),
        (write(entry("dog", 5, 5, 4.0000001, 9)), r"\(dog\): box .* is less than 0.01 pixels"),
        (write(entry("dog", 1, 1, 5, 5, difficult=7)), "difficult: expected 0 or 1, not '7'"),
        (
            lambda f: (f / "Annotations/000001.xml").write_text(
                "<?xml version='1.0' encoding='x'?>"
            ),
            "not XML",
        ),
        (lambda f: (f / "Annotations/000001.xml").write_text("<annotation>"), "not XML"),
        (lambda f: (f / "Annotations/000001.xml").unlink(), "No such file"),
        (lambda f: (f / "Annotations/000001.xml").write_text("<!DOCTYPE a>"), "defines entities"),
        (
            lambda f: (f / "JPEGImages/000001.jpg").unlink(),
            r"000001\.jpg: no such image, nor \.png",
        ),
        (lambda f: (f / "ImageSets/Main/train.txt").write_text(""), "lists no image"),
        (
            lambda f: (f / "ImageSets/Main/train.txt").write_text("../x\n"),
            "neither a bare name nor one in a sub",
        ),
        (
            lambda f: (f / "ImageSets/Main/train.txt").write_text("sub/../../x\n"),
            "neither a bare name",
        ),
        (lambda f: (f / "ImageSets/Main/train.txt").write_text("/etc/x\n"), "neither a bare name"),
        (lambda f: (f / "ImageSets/Main/train.txt").write_text("sub//x\n"), "neither a bare name"),
        (lambda f: (f / "ImageSets/Main/train.txt").write_text("..\\\\x\n"), "neither a bare"),
        (lambda f: (f / "ImageSets/Main/train.txt").unlink(), "no split 'train'"),
    ],
)
def test_what_does_not_fit_is_said_with_its_file(
    voc: Path, change: Callable[[Path], object], said: str
) -> None:
    change(voc)
    with pytest.raises(DataError, match=said):
        read_voc(voc, "train")


def test_an_image_that_cannot_be_read_is_named(voc: Path) -> None:
    file = voc / "JPEGImages/000002.jpg"
    file.write_bytes(file.read_bytes()[:700])  # the header is whole, the pixels are not
    found = read_voc(voc, "train")
    assert found.image(0).shape == (3, 40, 50)
    with pytest.raises(DataError, match=r"000002\.jpg cannot be decoded as an image"):
        found.image(1)
    file.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"000002\.jpg cannot be decoded as an image"):
        read_voc(voc, "train")


def test_the_image_knows_its_size_better_than_the_annotation(voc: Path) -> None:
    file = voc / "Annotations/000001.xml"
    text = file.read_text().replace("<width>50<", "<width>640<")
    file.write_text(text.replace("<xmax>20<", "<xmax>600<"))
    with pytest.raises(DataError, match="leaves the image of 50 x 40 pixels"):
        read_voc(voc, "train")


def test_annotations_without_a_size_ask_the_image(voc: Path) -> None:
    file = voc / "Annotations/000001.xml"
    text = file.read_text().replace("<width>50</width><height>40</height>", "")
    for told in ("<width>0</width><height>0</height>", ""):
        start = text.index("<size>")
        assert read_voc(voc, "train").truths[0].boxes.shape == (2, 4)
        file.write_text(text[:start] + f"<size>{told}" + text[start + len("<size>") :])
        if not told:
            file.write_text(text[:start] + text[text.index("</size>") + len("</size>") :])
            assert read_voc(voc, "train").truths[0].boxes.shape == (2, 4)


def test_a_missing_set_says_where_it_comes_from_and_what_to_do_without(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cross-domain-detection.*JPEGImages/.*shapes:clipart"):
        load_detection(f"voc:{tmp_path / 'clipart'}:test")
    with pytest.raises(DataError, match=r"PASCAL VOC challenge of 2007.*trainval\.txt"):
        load_detection(f"voc:{tmp_path / 'VOC2007'}:trainval")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("vok:x:y", "did you mean 'voc'"),
        ("shapes", "expected voc:FOLDER"),
        ("voc::test", "expected voc:FOLDER:SPLIT"),
        ("coco:images", "expected coco:IMAGES:JSON"),
        ("shapes:photos", "did you mean 'photo'"),
        ("shapes:photo:many", "N: expected a number"),
        ("shapes:photo:10?textur=1", "did you mean 'texture'"),
        ("shapes:photo:10?texture=2", "a texture of 0 to 0.25"),
        ("shapes:photo:0", "1 to 100,000 images"),
        ("shapes:photo?side=10", "64 to 512 pixels"),
    ],
)
def test_specs_that_name_nothing(spec: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        load_detection(spec)


def test_another_sets_classes(voc: Path) -> None:
    found = read_voc(voc, "train").with_classes(("person", "cat"))
    assert found.truths[0].labels.tolist() == [0]
    assert found.truths[0].boxes.tolist() == [[7.5, 11, 50, 40]]
    with pytest.raises(DataError, match="no class in common with zebra"):
        read_voc(voc, "train").with_classes(("zebra",))


def test_subsets_keep_images_and_truths_together(voc: Path) -> None:
    whole = read_voc(voc, "all")
    turned = whole.subset([2, 0])
    assert turned.ids == ("000003", "000001")
    assert torch.equal(turned.image(1), whole.image(0))
    kept = turned.in_memory()
    assert torch.equal(kept.image(0), whole.image(2))
    assert torch.equal(kept.subset([1]).image(0), whole.image(0))
    with pytest.raises(DataError, match="no images"):
        DetectionSet("none", VOC, (), (), whole.read)


def test_grey_of_sixteen_bits_is_scaled_not_cut(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    file = tmp_path / "ramp.png"
    Image.fromarray(ramp).save(file)
    pixels = read_colour(file)
    assert pixels.shape == (3, 16, 16)
    assert (pixels[0].flatten().int() - torch.arange(256)).abs().max() <= 1
    Image.fromarray(ramp.astype(np.float32)).save(tmp_path / "real.tiff")
    with pytest.raises(DataError, match=r"real\.tiff.*32 bits"):
        read_colour(tmp_path / "real.tiff")


def test_images_without_labels_need_no_annotations(voc: Path) -> None:
    for file in (voc / "Annotations").iterdir():
        file.unlink()
    (voc / "Annotations").rmdir()
    found = load_detection(f"voc:{voc}:train", labelled=False)
    assert found.ids == ("000001", "000002")
    assert [len(each) for each in found.truths] == [0, 0]
    with pytest.raises(DataError, match="no Annotations in it"):
        load_detection(f"voc:{voc}:train")


def add_image(folder: Path, name: str, objects: str, suffix: str = ".jpg") -> None:
    image = folder / "JPEGImages" / f"{name}{suffix}"
    annotation = folder / "Annotations" / f"{name}.xml"
    for file in (image, annotation):
        file.parent.mkdir(parents=True, exist_ok=True)
    value = sum(map(ord, str(image))) % 200
    Image.fromarray(np.full((40, 50, 3), value, dtype=np.uint8)).save(image)
    annotation.write_text(ANNOTATION.format(name=name, objects=objects))


def list_images(folder: Path, split: str, *names: str) -> None:
    file = folder / "ImageSets" / "Main" / f"{split}.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(names) + "\n")


@pytest.fixture
def later(tmp_path: Path) -> Path:
    """VOC2012 beside VOC2007: an id of its own, and one that both have."""
    folder = tmp_path / "VOC2012"
    add_image(folder, "2008_000001", entry("cat", 2, 2, 9, 9))
    add_image(folder, "000002", entry("dog", 3, 3, 9, 9))
    list_images(folder, "train", "2008_000001", "000002")
    return folder


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".png"])
def test_images_may_lie_in_sub_folders(voc: Path, suffix: str) -> None:
    add_image(voc, "cubism/0001", entry("person", 2, 2, 9, 9), suffix)
    add_image(voc, "photo/old/0001", entry("dog", 2, 2, 9, 9), suffix)
    list_images(voc, "art", "cubism/0001", "photo/old/0001", "000001")
    found = read_voc(voc, "art")
    assert found.ids == ("cubism/0001", "photo/old/0001", "000001")
    assert [VOC[each.labels[0]] for each in found.truths] == ["person", "dog", "dog"]
    for number, each in enumerate(found.ids[:2]):
        own = read_colour(voc / "JPEGImages" / f"{each}{suffix}")
        assert torch.equal(found.image(number), own)
    (voc / "Annotations" / "cubism" / "0001.xml").unlink()
    with pytest.raises(DataError, match=r"cubism/0001\.xml: No such file"):
        read_voc(voc, "art")


def test_two_folders_are_one_set(voc: Path, later: Path) -> None:
    whole = load_detection(f"voc:{voc}+{later}:train")
    first, second = read_voc(voc, "train"), read_voc(later, "train")
    assert whole.classes == VOC
    assert whole.ids == ("000001", "VOC2007/000002", "2008_000001", "VOC2012/000002")
    assert whole.name == f"voc:{voc}+{later}:train"
    for index, (own, at) in enumerate([(first, 0), (first, 1), (second, 0), (second, 1)]):
        assert torch.equal(whole.image(index), own.image(at))
        assert torch.equal(whole.truths[index].boxes, own.truths[at].boxes)
        assert torch.equal(whole.truths[index].labels, own.truths[at].labels)
        assert whole.paths[index] == own.paths[at]
    turned = whole.subset([3, 0])
    assert torch.equal(turned.image(0), second.image(1))
    assert turned.paths == (second.paths[1], first.paths[0])
    assert load_detection(f"voc:{voc}+{later}", "train").ids == whole.ids
    for file in (*(voc / "Annotations").iterdir(), *(later / "Annotations").iterdir()):
        file.unlink()
    assert load_detection(f"voc:{voc}+{later}:train", labelled=False).ids == whole.ids


def test_classes_of_joined_folders_are_those_of_all_by_name(voc: Path, later: Path) -> None:
    (voc / "classes.txt").write_text("dog\nperson\ntvmonitor\n")
    (later / "classes.txt").write_text("cat\ndog\n")
    whole = load_detection(f"voc:{later}+{voc}:train")
    assert whole.classes == ("cat", "dog", "person", "tvmonitor")
    told = [[whole.classes[label] for label in each.labels] for each in whole.truths]
    assert told == [["cat"], ["dog"], ["dog", "person"], []]


def test_folders_of_one_name_are_told_apart_by_where_they_lie(voc: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "VOC2007"
    add_image(other, "000001", entry("cat", 2, 2, 9, 9))
    list_images(other, "train", "000001")
    found = load_detection(f"voc:{voc}+{other}:train")
    assert found.ids == (f"{voc}/000001", "000002", f"{other}/000001")


def test_a_plus_in_a_folders_own_name_joins_nothing(voc: Path) -> None:
    moved = voc.rename(voc.with_name("VOC2007+2012"))
    assert load_detection(f"voc:{moved}:train").ids == ("000001", "000002")


def test_what_cannot_be_joined(voc: Path, later: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="VOC2007 twice; each folder counts once"):
        load_detection(f"voc:{voc}+{later}+{voc}:train")
    with pytest.raises(DataError, match="a folder on each side of a plus"):
        load_detection(f"voc:{voc}+:train")
    with pytest.raises(DataError, match=r"VOC2013: no such folder.*ImageSets/Main/train\.txt"):
        load_detection(f"voc:{voc}+{tmp_path / 'VOC2013'}:train")
    with pytest.raises(DataError, match="VOC2012: no split 'test'"):
        load_detection(f"voc:{voc}+{later}:test")
    list_images(later, "train", "2008_000001", "linked")
    (later / "JPEGImages" / "linked.jpg").symlink_to(voc / "JPEGImages" / "000001.jpg")
    (later / "Annotations" / "linked.xml").write_text(ANNOTATION.format(name="a", objects=""))
    with pytest.raises(DataError, match=r"000001\.jpg is in two of its folders"):
        load_detection(f"voc:{voc}+{later}:train")


def test_ids_that_are_the_same_even_with_their_folder(voc: Path, later: Path) -> None:
    add_image(later, "VOC2007/000002", "")
    list_images(later, "train", "000002", "VOC2007/000002")
    with pytest.raises(DataError, match="two images are called 'VOC2007/000002'"):
        load_detection(f"voc:{voc}+{later}:train")


def test_lists_with_underscores_are_offered_but_for_those_of_a_class(voc: Path) -> None:
    list_images(voc, "natural_train", "000001")
    with pytest.raises(DataError, match="did you mean 'natural_train'") as caught:
        read_voc(voc, "natural_trian")
    assert "dog_train" not in str(caught.value)


def test_paths_tell_images_apart_whatever_they_are_called(voc: Path) -> None:
    found = read_voc(voc, "train")
    assert [Path(each).name for each in found.paths] == ["000001.jpg", "000002.jpg"]
    with pytest.raises(DataError, match="2 images, 1 paths"):
        replace(found, paths=found.paths[:1])
