"""Boxes in COCO's JSON."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robustkit.data.detection.sets import DetectionSet, Truth, checked, read_colour, size_of, truth
from robustkit.errors import DataError
from robustkit.reading import JSON_LIMIT, is_printable, read_json


def read_coco(folder: Path, file: Path, *, labelled: bool = True) -> DetectionSet:
    """Return the images that `file` lists, found in `folder`; classes in the order of their ids.

    Boxes are x, y, width, height, counted from 0; of images that are not `labelled` none are read,
    and annotations and categories may be missing. Raises `DataError`, naming the file and the
    entry, for whatever is missing or does not fit.
    """
    try:
        content = _read(file)
        if not labelled:
            content = {"categories": [], **content, "annotations": []}
        return _detection_set(folder, file, content)
    except (TypeError, ValueError, OverflowError, OSError) as error:
        raise DataError(f"{file}: an entry has a value of no use ({error})") from None


def _detection_set(folder: Path, file: Path, content: Mapping[str, Any]) -> DetectionSet:
    listed = _entries(content, "categories", file)
    for entry in listed:
        number, name = entry.get("id"), entry.get("name")
        if type(number) is not int or not isinstance(name, str) or not name.strip():
            raise DataError(
                f"{file}: category {number!r}: expected a whole id and a name, {name!r}"
            )
        if not is_printable(name):
            raise DataError(f"{file}: category {number}: {name!r} holds control characters")
    categories = sorted(listed, key=lambda entry: int(entry["id"]))
    index_of = {_get(category, "id", file): index for index, category in enumerate(categories)}
    images = {_get(entry, "id", file): entry for entry in _entries(content, "images", file)}
    if len(index_of) < len(categories) or len(images) < len(content["images"]):
        raise DataError(f"{file}: an id appears twice")
    classes = tuple(str(category["name"]) for category in categories)
    if len(set(classes)) < len(classes):
        raise DataError(f"{file}: two categories of one name: {', '.join(classes)}")
    paths = {number: _path(folder, image, file) for number, image in images.items()}
    objects: dict[Any, list[Mapping[str, Any]]] = {number: [] for number in images}
    for entry in _entries(content, "annotations", file):
        number = _get(entry, "image_id", file)
        if number not in objects:
            raise DataError(f"{file}: annotation of image {number}, which is not listed")
        objects[number].append(entry)
    sizes = {number: size_of(paths[number]) for number in images}
    order = list(images)
    return DetectionSet(
        name=f"coco:{folder}:{file}",
        classes=classes,
        ids=tuple(str(images[number]["file_name"]) for number in order),
        truths=tuple(_truth(objects[number], sizes[number], index_of, file) for number in order),
        read=lambda index: read_colour(paths[order[index]]),
        root=os.path.realpath(folder),
        paths=tuple(os.path.realpath(paths[number]) for number in order),
    )


def _truth(
    objects: list[Mapping[str, Any]], size: tuple[int, int], index_of: Mapping[Any, int], file: Path
) -> Truth:
    boxes, labels, crowd, area = [], [], [], []
    for item in objects:
        where = f"{file}: annotation {item.get('id', '?')}"
        label = _get(item, "category_id", file)
        if label not in index_of:
            raise DataError(f"{where}: unknown category {label}")
        box = _get(item, "bbox", file)
        if not (isinstance(box, list) and len(box) == 4 and all(_is_number(edge) for edge in box)):
            raise DataError(f"{where}: bbox must be [x, y, width, height], not {box!r}")
        x, y, width, height = map(float, box)
        edges = checked((x, y, x + width, y + height), size, where)
        boxes.append(edges)
        labels.append(index_of[label])
        is_crowd = item.get("iscrowd", 0)
        if not isinstance(is_crowd, int) or is_crowd not in (0, 1):
            raise DataError(f"{where}: iscrowd must be 0 or 1, not {is_crowd!r}")
        crowd.append(bool(is_crowd))
        area.append(_area(item.get("area", width * height), where))
    return truth(boxes, labels, crowd=crowd, area=area)


def _area(given: Any, where: str) -> float:
    if not (_is_number(given) and 0 <= given < math.inf):
        raise DataError(f"{where}: area must be a number of pixels, not {given!r}")
    return float(given)


def _read(file: Path) -> Mapping[str, Any]:
    content = read_json(file, error=DataError, limit=JSON_LIMIT)
    if not isinstance(content, dict):
        raise DataError(f"{file}: expected an object with images, annotations and categories")
    return content


def _entries(content: Mapping[str, Any], key: str, file: Path) -> list[Mapping[str, Any]]:
    entries = content.get(key)
    if not isinstance(entries, list) or not all(isinstance(item, dict) for item in entries):
        raise DataError(f"{file}: '{key}' must be a list of objects")
    return entries


def _get(entry: Mapping[str, Any], key: str, file: Path) -> Any:
    value = entry.get(key)
    if value is None or isinstance(value, dict):
        raise DataError(f"{file}: an entry lacks '{key}': {str(entry)[:80]}")
    return value


def _path(folder: Path, entry: Mapping[str, Any], file: Path) -> Path:
    called = str(_get(entry, "file_name", file))
    if not is_printable(called):
        raise DataError(f"{file}: image {called!r} holds control characters")
    path = folder / called
    # The names of links to themselves have an end here, unlike in Path.resolve.
    whole, inside = os.path.realpath(folder), os.path.realpath(path)
    if os.path.commonpath([whole, inside]) != whole:
        raise DataError(f"{file}: image '{called}' lies outside {folder}")
    if path.is_dir() or not os.path.lexists(path):
        raise DataError(f"{path}: no such image, though {file.name} lists it")
    return path


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
