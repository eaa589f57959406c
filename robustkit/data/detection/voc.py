"""Folders in the layout of PASCAL VOC: JPEGImages, Annotations, ImageSets/Main."""

from __future__ import annotations

import os
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException, ElementTree

from robustkit.data.arrays import one_line
from robustkit.data.detection.sets import (
    ANNOTATIONS,
    IMAGES,
    SPLITS,
    DetectionSet,
    Truth,
    checked,
    classes_of,
    read_colour,
    size_of,
    truth,
)
from robustkit.errors import DataError, did_you_mean
from robustkit.reading import is_printable, printable, read_bounded, read_text

SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG")
ALL = ("train", "test")  # what "all" means where no all.txt says otherwise, as in Clipart1k
LARGEST = 4 * 2**20  # bytes of an annotation


def read_voc(
    folder: Path, split: str, name: str | None = None, *, labelled: bool = True
) -> DetectionSet:
    """Return the images that `ImageSets/Main/SPLIT.txt` lists; several splits as "train+test".

    An image in a sub-folder is listed as sub/name: its files are JPEGImages/sub/name.jpg (.jpeg or
    .png) and Annotations/sub/name.xml.
    Every annotation is read now, every image when it is asked for. Boxes count pixels from 1 in
    these files: 1 is taken from xmin and ymin only. Of images that are not `labelled` no annotation
    is looked for. Raises `DataError`, naming the file and the
    object, for whatever is missing or does not fit.
    """
    names = _listed(folder, split, labelled)
    classes = classes_of(folder)
    files = [_image(folder, item) for item in names]
    truths = tuple(
        read_annotation(folder / ANNOTATIONS / f"{item}.xml", file, classes)
        if labelled
        else truth([], [])
        for item, file in zip(names, files, strict=True)
    )
    return DetectionSet(
        name=name or f"voc:{folder}:{split}",
        classes=classes,
        ids=tuple(names),
        truths=truths,
        read=lambda index: read_colour(files[index]),
        root=os.path.realpath(folder),
        paths=tuple(f"{os.path.realpath(folder)}/{file.relative_to(folder)}" for file in files),
    )


def read_annotation(file: Path, image: Path, classes: tuple[str, ...]) -> Truth:
    """Return the objects of one annotation, without their parts; raises `DataError`."""
    root = _parsed(file)
    # The image's own size: what annotations say of it is not always true.
    size = size_of(image)
    boxes, labels, difficult = [], [], []
    for number, entry in enumerate(root.findall("object"), start=1):
        called = " ".join((entry.findtext("name") or "").split())
        where = f"{file}: object {number}" + (f" ({called})" if called else "")
        if called not in classes:
            raise DataError(f"{where}: unknown class '{called}'{did_you_mean(called, classes)}")
        box_entry = entry.find("bndbox")
        if box_entry is None:
            raise DataError(f"{where}: no bndbox")
        xmin, ymin, xmax, ymax = (
            _number(box_entry.findtext(edge), f"{where}: {edge}")
            for edge in ("xmin", "ymin", "xmax", "ymax")
        )
        boxes.append(checked((xmin - 1, ymin - 1, xmax, ymax), size, where))
        labels.append(classes.index(called))
        difficult.append(_flag(entry.findtext("difficult"), f"{where}: difficult"))
    return truth(boxes, labels, difficult=difficult)


def _listed(folder: Path, split: str, labelled: bool) -> list[str]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; {_wanted(folder)}")
    for part in (IMAGES, ANNOTATIONS, SPLITS) if labelled else (IMAGES, SPLITS):
        if not (folder / part).is_dir():
            raise DataError(f"{folder}: no {part} in it; {_wanted(folder)}")
    if split == "all" and not (folder / SPLITS / "all.txt").is_file():
        split = "+".join(ALL)
    names: dict[str, None] = {}
    for part in split.split("+"):
        file = folder / SPLITS / f"{part}.txt"
        if part != Path(part).name or not file.is_file():
            known = sorted(path.stem for path in (folder / SPLITS).glob("*.txt"))
            prefixes = tuple(f"{name}_" for name in classes_of(folder))
            known = [
                item for item in known if not item.startswith(prefixes)
            ]  # cat_train and the like
            raise DataError(f"{folder}: no split '{part}'{did_you_mean(part, known)}")
        for line in _lines(file):
            if line.strip():
                # Some lists have a second column, the class's presence.
                names[line.split()[0]] = None
    if not names:
        raise DataError(f"{folder / SPLITS / split}.txt: lists no image")
    for item in names:
        if not _is_within(item):
            raise DataError(
                f"{folder}: split '{split}' lists '{printable(item)}', which is neither a bare "
                f"name nor one in a sub-folder of {IMAGES}, as sub/name"
            )
    return list(names)


def _is_within(name: str) -> bool:
    """Return whether a listed name stays in its folder whatever it is joined with."""
    parts = name.split("/")
    return is_printable(name) and not any(
        part in ("", ".", "..") or "\\" in part or ":" in part for part in parts
    )


def _lines(file: Path) -> list[str]:
    return read_text(file, error=DataError).splitlines()


def _wanted(folder: Path) -> str:
    return f"VOC layout is {folder.name}/{IMAGES}/*.jpg, {ANNOTATIONS}/*.xml and {SPLITS}/SPLIT.txt"


def _image(folder: Path, name: str) -> Path:
    for suffix in SUFFIXES:
        file = folder / IMAGES / f"{name}{suffix}"
        if os.path.lexists(file):
            return file
    raise DataError(f"{folder / IMAGES / name}.jpg: no such image, nor .png")


def _parsed(file: Path) -> Element:
    content = read_bounded(file, error=DataError, limit=LARGEST)
    try:
        root: Element = ElementTree.fromstring(content, forbid_dtd=True)
    except DefusedXmlException:
        raise DataError(f"{file}: defines entities, which annotations have no use for") from None
    except (ParseError, ValueError, LookupError) as error:
        raise DataError(f"{file}: not XML ({one_line(error)})") from None
    return root


def _flag(text: str | None, where: str) -> bool:
    flag = " ".join((text or "").split()) or "0"
    if flag not in ("0", "1"):
        raise DataError(f"{where}: expected 0 or 1, not '{flag}'")
    return flag == "1"


def _number(text: str | None, where: str) -> float:
    digits = " ".join((text or "").split())
    try:
        return float(digits)
    except ValueError:
        raise DataError(f"{where}: expected a number, not '{digits}'") from None
