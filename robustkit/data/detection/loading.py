"""Detection sets by name: from a spec to images with boxes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from robustkit.data.detection.coco import read_coco
from robustkit.data.detection.sets import DetectionSet, joined
from robustkit.data.detection.shapes import ShapesConfig, rendered
from robustkit.data.detection.voc import read_voc
from robustkit.errors import DataError, did_you_mean
from robustkit.reading import parse_real, typed_path

KINDS = ("voc", "coco", "shapes")
CLASSES = "?classes="
FORMS = "voc:FOLDER:SPLIT (voc:A+B:SPLIT), coco:IMAGES:JSON or shapes:STYLE[:N]"
# The sources of the published sets, for the error when one is missing.
ORIGINS = {
    "voc2007": "the trainval and test archives of the PASCAL VOC challenge of 2007",
    "voc2012": "the trainval archive of the PASCAL VOC challenge of 2012",
    "clipart": "Clipart1k of the repository naoto0804/cross-domain-detection",
    "watercolor": "Watercolor2k of the repository naoto0804/cross-domain-detection",
    "comic": "Comic2k of the repository naoto0804/cross-domain-detection",
}


def load_detection(spec: str, part: str = "test", *, labelled: bool = True) -> DetectionSet:
    """Return the set that `spec` names: voc:FOLDER:SPLIT, coco:IMAGES:JSON or shapes:STYLE[:N].

    A rendered set has two parts, "train" and "test", of N images each; its options follow a
    question mark, as in "shapes:clipart:500?texture=0&side=96&seed=1". "?classes=person,dog" behind
    a VOC folder or COCO's file leaves these classes alone, in this order. Of a VOC folder named
    without a split `part` is the split; several folders are one set as "voc:A+B:SPLIT", where
    every one has the split. Where images are not `labelled`, nothing but them is read
    and nothing is in them. Raises `DataError`, saying what is missing where.
    """
    kind, colon, rest = spec.partition(":")
    if not colon or kind not in KINDS:
        hint = did_you_mean(kind, KINDS) if kind not in KINDS else ""
        raise DataError(f"data '{spec}': expected {FORMS}{hint}")
    if kind == "shapes":
        return _READERS[kind](rest, part, spec, labelled)
    rest, chosen, listed = rest.partition(CLASSES)
    found = _READERS[kind](rest, part, spec, labelled).remembered()
    return _of_classes(found, listed, spec) if chosen else found


def without_classes(spec: str) -> str:
    """Return a spec without the classes that it chooses."""
    return spec.partition(CLASSES)[0]


def _of_classes(found: DetectionSet, listed: str, spec: str) -> DetectionSet:
    names = listed.split(",")
    for name in names:
        if name not in found.classes:
            raise DataError(f"data '{spec}': no class '{name}'{did_you_mean(name, found.classes)}")
        if names.count(name) > 1:
            raise DataError(f"data '{spec}': class '{name}' twice")
    return found.with_classes(names)


def _voc(rest: str, part: str, spec: str, labelled: bool) -> DetectionSet:
    path, colon, split = rest.rpartition(":")
    if not colon:
        path, split = rest, part
    if not path or not split:
        raise DataError(f"data '{spec}': expected voc:FOLDER:SPLIT")
    named = _folders(path, spec)
    if len(named) == 1:
        return _one_voc(named[0], split, spec, labelled)
    words = [folder.name for folder in named]
    if len(set(words)) < len(words):
        words = [str(folder) for folder in named]
    sets = {
        word: _one_voc(folder, split, f"voc:{folder}:{split}", labelled)
        for word, folder in zip(words, named, strict=True)
    }
    return joined(sets, spec)


def _folders(path: str, spec: str) -> list[Path]:
    """Return the folders A and B of A+B; one whose own name has a plus is meant itself."""
    whole = typed_path(path, error=DataError)
    if whole.is_dir():
        return [whole]
    if "" in path.split("+"):
        raise DataError(f"data '{spec}': expected voc:A+B:SPLIT, a folder on each side of a plus")
    named = [typed_path(part, error=DataError) for part in path.split("+")]
    places = [folder.resolve() for folder in named]
    for number, place in enumerate(places):
        if place in places[:number]:
            raise DataError(f"data '{spec}': {named[number]} twice; each folder counts once")
    return named


def _one_voc(folder: Path, split: str, spec: str, labelled: bool) -> DetectionSet:
    if not folder.is_dir():
        called = folder.name.lower()
        origin = next(
            (origin_hint for key, origin_hint in ORIGINS.items() if called.startswith(key)), None
        )
        origin_hint = f"; it comes with {origin}" if origin else ""
        raise DataError(
            f"{folder}: no such folder{origin_hint}; wanted are JPEGImages/, Annotations/ and "
            f"ImageSets/Main/{split}.txt in it; without the data: shapes:photo, shapes:clipart"
        )
    return read_voc(folder, split, spec, labelled=labelled)


def _coco(rest: str, part: str, spec: str, labelled: bool) -> DetectionSet:
    images, colon, file = rest.rpartition(":")
    if not colon or not images or not file:
        raise DataError(f"data '{spec}': expected coco:IMAGES:JSON")
    places = (typed_path(value, error=DataError) for value in (images, file))
    return read_coco(*places, labelled=labelled)


def _shapes(rest: str, part: str, spec: str, labelled: bool) -> DetectionSet:
    config = shapes_config(spec)
    return read_voc(rendered(config), part, spec, labelled=labelled).in_memory()


def shapes_config(spec: str) -> ShapesConfig:
    """Return the rendered set that `spec` asks for; raises `DataError` for unknown options."""
    named, _, query = spec.partition("?")
    _, _, rest = named.partition(":")
    style, colon, count = rest.partition(":")
    given: dict[str, Any] = {"style": style}
    if colon:
        given["count"] = _converted("N", count, int, spec)
    for pair in filter(None, query.split("&")):
        key, _, value = pair.partition("=")
        if key not in _OPTIONS:
            raise DataError(f"data '{spec}': unknown option '{key}'{did_you_mean(key, _OPTIONS)}")
        if key in given:
            raise DataError(f"data '{spec}': option '{key}' twice")
        given[key] = _converted(key, value, _OPTIONS[key], spec)
    return ShapesConfig(**given)


def _converted(name: str, text: str, kind: Callable[[str], Any], spec: str) -> Any:
    try:
        return kind(text)
    except (ValueError, ZeroDivisionError, OverflowError):
        raise DataError(f"data '{spec}': {name}: expected a number, not '{text}'") from None


_READERS: dict[str, Callable[[str, str, str, bool], DetectionSet]] = {
    "voc": _voc,
    "coco": _coco,
    "shapes": _shapes,
}
_OPTIONS: dict[str, Callable[[str], Any]] = {
    "texture": parse_real,
    "side": int,
    "seed": int,
}
