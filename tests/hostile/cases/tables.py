"""Lists of labels and boxes: CSV, VOC's XML and lists, COCO's JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tests.hostile.case import EITHER, Case, Place
from tests.hostile.sent import ODD, attack, boxed, classes, coco, detect, picture, pictures, voc

_LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10 if n else "ha"}">' for n in range(10))
_DOCTYPE = f"<!DOCTYPE a [{_LAUGHS}]>"
_OUTSIDE = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
_ONES = "<a>" * 100_000 + "</a>" * 100_000
XML: dict[str, tuple[str | bytes, str]] = {
    "a million laughs": (boxed("&l9;", head=_DOCTYPE), "entities"),
    "a million laughs in UTF-16": (boxed("&l9;", head=_DOCTYPE).encode("utf-16"), "entities"),
    "a doctype": (boxed(head="<!DOCTYPE a>"), "entities"),
    "a doctype in UTF-16": (boxed(head="<!DOCTYPE a>").encode("utf-16"), "entities"),
    "a doctype in UTF-16, big-endian": (
        b"\xfe\xff" + boxed(head="<!DOCTYPE a>").encode("utf-16-be"),
        "entities",
    ),
    "a doctype in UTF-7": (
        b'<?xml version="1.0" encoding="utf-7"?>' + boxed(head="<!DOCTYPE a>").encode("utf-7"),
        "a.xml",
    ),
    "a doctype in EBCDIC": (
        boxed(head='<?xml version="1.0" encoding="cp037"?><!DOCTYPE a>').encode("cp037"),
        "a.xml",
    ),
    "a file of the system": (boxed("&x;", head=_OUTSIDE), "entities"),
    "a file of the system in UTF-16": (boxed("&x;", head=_OUTSIDE).encode("utf-16"), "entities"),
    "an unknown encoding": ('<?xml version="1.0" encoding="klingon"?>' + boxed(), "a.xml"),
    "100,000 elements deep": (boxed(more=_ONES), ""),
    "5 MB": (boxed(more=" " * 5_000_000), "a.xml"),
    "nothing": ("", "a.xml"),
    "no XML": ("hello", "a.xml"),
    "NUL bytes": ("\0" * 100, "a.xml"),
    "cut": (boxed()[:-9], "a.xml"),
    "an infinite edge": (boxed(box=(1, 1, "1e999", 20)), "finite"),
    "an edge of NaN": (boxed(box=("nan", 1, 20, 20)), "finite"),
    "an edge of 5,000 digits": (boxed(box=(1, 1, "9" * 5000, 20)), "a.xml"),
    "an edge of text": (boxed(box=("a\nb", 1, 20, 20)), "xmin"),
    "an edge of 100,000 letters": (boxed(box=("a" * 100_000, 1, 20, 20)), "xmin"),
    "a box turned round": (boxed(box=(20, 20, 1, 1)), "area"),
    "a box outside": (boxed(box=(1, 1, 2000, 20)), "leaves"),
    "an unknown class": (boxed("dragon"), "dragon"),
    "a class of 100,000 letters": (boxed("a" * 100_000), "unknown class"),
    "a class of line breaks": (boxed("a\n\n\nb"), "unknown class"),
    "a class of turned letters": (boxed("a&#x202e;b"), "unknown class"),
    "no box": ("<annotation><object><name>circle</name></object></annotation>", "bndbox"),
    "difficult of text": (
        boxed().replace("<name>", "<difficult>9</difficult><name>"),
        "difficult",
    ),
}
LISTS: dict[str, str | bytes] = {
    "nothing": "",
    "blank lines": "\n\n \n",
    "a name that leads up": "../a\n",
    "an absolute name": "/etc/passwd\n",
    "a name of NUL": "a\0b\n",
    "a name of escapes": "\x1b[2J\n",
    "a name that is no UTF-8": b"\xff\xfe\n",
    "a name of 10 MB": "a" * 10_000_000,
    "a name of 300 letters": "a" * 300,
    "a name of 1,000 folders": "a/" * 1000 + "a",
    "a name with a backslash": "a\\b\n",
    "a name that is not there": "b\n",
    "a dot": ".\n",
}
VOC_CLASSES: dict[str, str | bytes] = {
    "nothing": "",
    "twice": "circle\ncircle\n",
    "no UTF-8": b"\xff\xfe\n",
    "escapes": "circle\n\x1b[2J\n",
    "NUL": "circle\n\0\n",
}
_BOX = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 20, 20]}
_CATEGORY = {"id": 1, "name": "circle"}


def _box(**changes: Any) -> dict[str, Any]:
    return {"annotations": [_BOX | changes]}


COCO: dict[str, dict[str, Any]] = {
    "an infinite edge": _box(bbox=[1, 1, 1e308, 1e308]),
    "an edge of 400 digits": _box(bbox=[1, 1, 10**400, 20]),
    "an edge of text": _box(bbox=["1", 1, 2, 3]),
    "an edge of truth": _box(bbox=[True, True, True, True]),
    "a box of three": _box(bbox=[1, 2, 3]),
    "a box of a dict": _box(bbox={"x": 1}),
    "a box turned round": _box(bbox=[10, 10, -5, -5]),
    "an unknown image": _box(image_id=9),
    "an image of a list": _box(image_id=[1]),
    "an unknown category": _box(category_id=7),
    "a category of a list": _box(category_id=[1]),
    "a crowd of 2": _box(iscrowd=2),
    "a crowd of text": _box(iscrowd="no"),
    "an area of text": _box(area="large"),
    "an area of 400 digits": _box(area=10**400),
    "a negative area": _box(area=-1),
    "a name of escapes": {"categories": [{"id": 1, "name": "\x1b[2J"}]},
    "a name of line breaks": {"categories": [{"id": 1, "name": "a\nb"}]},
    "a name that is no text": {"categories": [{"id": 1, "name": 3}]},
    "an id of text": {"categories": [{"id": "1", "name": "circle"}]},
    "an id twice": {"categories": [_CATEGORY, _CATEGORY]},
    "a name twice": {"categories": [_CATEGORY, _CATEGORY | {"id": 2}]},
    "no categories": {"categories": []},
    "categories of a dict": {"categories": {}},
    "no images": {"images": []},
    "an image twice": {"images": [{"id": 1, "file_name": "a.png"}] * 2},
    "an image that leads up": {"images": [{"id": 1, "file_name": "../../../etc/passwd"}]},
    "an absolute image": {"images": [{"id": 1, "file_name": "/etc/passwd"}]},
    "an image of NUL": {"images": [{"id": 1, "file_name": "a\0.png"}]},
    "an image of escapes": {"images": [{"id": 1, "file_name": "\x1b[2J.png"}]},
    "an image of 300 letters": {"images": [{"id": 1, "file_name": "a" * 300}]},
    "an image of no text": {"images": [{"id": 1, "file_name": ["a.png"]}]},
    "an empty image": {"images": [{"id": 1, "file_name": ""}]},
    "an image that is a folder": {"images": [{"id": 1, "file_name": "."}]},
}
COCO_TEXT: dict[str, str] = {
    "a list": "[]",
    "nothing": "",
    "100,000 brackets": "[" * 100_000,
    "a number of 5,000 digits": '{"images": ' + "9" * 5000 + "}",
    "NaN": '{"images": NaN}',
    "1e999": '{"images": 1e999}',
    "half a character": '{"images": "\\ud800"}',
    "a key of escapes": '{"\\u001b[2J": 1}',
}
CSV: dict[str, tuple[str | bytes, str]] = {
    "NUL bytes": ("file,label\n00.png,1\n01\0.png,2\n", "line 3"),
    "a label of NUL": ("file,label\n00.png,a\n01.png,b\0\n", "line 3"),
    "10 MB in one line": ("file,label\n" + "a" * 10_000_000, "line 2"),
    "10 MB in the header": ("a" * 10_000_000, "line 1"),
    "an open quote": ('file,label\n"00.png,1\n', "line 2"),
    "letters behind a quote": ('file,label\n"00".png,1\n', "line 2"),
    "no label": ("file,label\n00.png,1\n01.png\n", "line 3"),
    "an empty label": ("file,label\n00.png,\n", "line 2"),
    "another column": ("file,colour\n00.png,1\n", "label"),
    "no file name": ("label\n1\n", "filename"),
    "a column twice": ("file,label,label\n00.png,1,2\n", "label"),
    "nothing": ("", "empty"),
    "a header alone": ("file,label\n", "rows"),
    "a label of 5,000 digits": (f"file,label\n00.png,{'9' * 5000}\n", "line 2"),
    "a label of 15 digits": (f"file,label\n00.png,{10**15}\n", "line 2"),
    "a negative label": ("file,label\n00.png,-1\n", "line 2"),
    "a label of half": ("file,label\n00.png,0.5\n", "line 2"),
    "a label of NaN": ("file,label\n00.png,nan\n", "line 2"),
    "a label of infinity": ("file,label\n00.png,1e999\n", "line 2"),
    "a label beyond the model's": ("file,label\n00.png,99\n", "99"),
    "no UTF-8": (b"file,label\n00.png,\xff\n", "UTF-8"),
    "UTF-16": ("file,label\n00.png,1\n".encode("utf-16"), "UTF-8"),
    "a missing picture": ("file,label\n00.png,1\nzz.png,2\n", "zz.png"),
    "an absolute name": ("file,label\n00.png,1\n/etc/passwd,2\n", "line 3"),
    "a name that leads up": ("file,label\n00.png,1\n../../a.png,2\n", "line 3"),
    "a name that leads up in the middle": ("file,label\na/../../b.png,2\n", "line 2"),
    "a name of 300 letters": (f"file,label\n{'a' * 300}.png,2\n", "line 2"),
    "a folder's name of 300 letters": (f"file,label\n{'a' * 300}/a.png,2\n", "line 2"),
    "a name of 3,000 folders": (f"file,label\n{'a/' * 3000}a.png,2\n", ""),
    "a name of escapes": ("file,label\n\x1b[2J.png,2\n", "line 2"),
    "a label of escapes": ("file,label\n00.png,\x1b[2J\n", "line 2"),
    "a label of turned letters": ("file,label\n00.png,a\u202eb\n", "line 2"),
    "a name beside of escapes": ("file,label,name\n00.png,1,\x1b[2J\n", "line 2"),
    "a picture twice": ("file,label\n00.png,1\n00.png,2\n", "lines 2 and 3"),
    "one class": ("file,label\n00.png,cat\n", "class"),
    "a picture": (picture(), "UTF-8"),
}
CSV_SOUND: dict[str, str | bytes] = {
    "a byte-order mark": "\ufefffile,label\n00.png,1\n01.png,2\n",
    "CR alone": "file,label\r00.png,1\r01.png,2\r",
    "CRLF": "file,label\r\n00.png,1\r\n01.png,2\r\n",
    "a quoted line break in a further column": 'file,label,note\n00.png,1,"a\nb"\n01.png,2,c\n',
}
GTSRB: dict[str, tuple[str | bytes, str]] = {
    "a class of 5,000 digits": (f"Filename;ClassId\na.ppm;{'9' * 5000}\n", "line 2"),
    "a class of text": ("Filename;ClassId\na.ppm;x\n", "line 2"),
    "a class of another script": ("Filename;ClassId\na.ppm;\u0663\n", "line 2"),
    "a class of superscript": ("Filename;ClassId\na.ppm;\u00b2\n", "line 2"),
    "a class of 99": ("Filename;ClassId\na.ppm;99\n", "99"),
    "no class": ("Filename;ClassId\na.ppm\n", "line 2"),
    "no name": ("ClassId;Filename\n1\n", ""),
    "another column": ("File;Class\na.ppm;1\n", "Filename"),
    "a name that leads up": ("Filename;ClassId\n../../../a.ppm;1\n", "line 2"),
    "an absolute name": ("Filename;ClassId\n/etc/passwd;1\n", "line 2"),
    "NUL bytes": ("Filename;ClassId\n\0.ppm;1\n", ""),
    "no UTF-8": (b"Filename;ClassId\n\xff.ppm;1\n", "UTF-8"),
    "10 MB in one line": ("Filename;ClassId\n" + "a" * 10_000_000, "line 2"),
    "nothing": ("", "Filename"),
}


def cases() -> Iterator[Case]:
    """Give lists of labels and boxes to commands that classify and detect."""
    for name, (content, says) in XML.items():
        ends = EITHER if name == "100,000 elements deep" else (2,)
        yield Case(f"voc/annotation/{name}", _annotated(content), says=says, ends=ends)
    for name, text in LISTS.items():
        yield Case(f"voc/list/{name}", _changed("ImageSets/Main/test.txt", text))
    for name, text in VOC_CLASSES.items():
        yield Case(f"voc/classes/{name}", _changed("classes.txt", text), says="sent")
    for name, changes in COCO.items():
        yield Case(f"coco/{name}", _of_coco(changes), says="coco.json")
    for name, told in COCO_TEXT.items():
        yield Case(f"coco/text/{name}", _of_text(told), says="coco.json")
    for name, (content, says) in CSV.items():
        yield Case(f"labels/{name}", _labelled(content), says=says)
    for name, text in CSV_SOUND.items():
        yield Case(f"labels/sound/{name}", _labelled(text), ends=(0,))
    for name, (content, says) in GTSRB.items():
        yield Case(f"gtsrb/{name}", _signs(content), says=says)
    for name, make in ODD.items():
        ends = EITHER if name == "empty" else (2,)
        yield Case(f"labels/file/{name}", _file("labels.csv", make, pictures))
        yield Case(f"coco/file/{name}", _coco_file(make))
        for file in ("ImageSets/Main/test.txt", "Annotations/a.xml", "classes.txt"):
            yield Case(f"voc/file/{file}/{name}", _voc_file(file, make), ends=ends)
        yield Case(f"gtsrb/file/{name}", _signs_file(make))
    yield Case("folder/a file for the folder", _no_folder)
    yield Case("labels/class names of many", _many, ends=EITHER)


def _annotated(content: str | bytes) -> Callable[[Place], Sequence[str]]:
    return lambda place: detect(place, voc(place, content))


def _changed(name: str, content: str | bytes) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        spec = voc(place, boxed())
        place.write(f"sent/{name}", content)
        return detect(place, spec)

    return prepare


def _voc_file(name: str, make: Callable[..., None]) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        spec = voc(place, boxed())
        make(place.here / "sent" / name)
        return detect(place, spec)

    return prepare


def _of_coco(changes: dict[str, Any]) -> Callable[[Place], Sequence[str]]:
    return lambda place: detect(place, coco(place, **changes))


def _of_text(text: str) -> Callable[[Place], Sequence[str]]:
    return lambda place: detect(place, coco(place, text))


def _coco_file(make: Callable[..., None]) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        spec = coco(place)
        make(place.here / "coco.json")
        return detect(place, spec)

    return prepare


def _labelled(content: str | bytes) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        pictures(place)
        place.write("sent/labels.csv", content)
        return attack(place, "images:sent?labels=labels.csv")

    return prepare


def _file(
    name: str, make: Callable[..., None], fill: Callable[[Place], Any]
) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        make(fill(place) / name)
        return attack(place, f"images:sent?labels={name}")

    return prepare


def _gtsrb(place: Place) -> Sequence[str]:
    rows = np.zeros((32, 32, 3), "u1").tobytes()
    ppm = b"P6\n32 32\n255\n" + rows
    place.write("root/gtsrb/GTSRB/Training/00000/00000_00000.ppm", ppm)
    place.write("root/gtsrb/GTSRB/Final_Test/Images/a.ppm", ppm)
    return attack(place, "gtsrb", "--root", "root")


def _signs(content: str | bytes) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        place.write("root/gtsrb/GT-final_test.csv", content)
        return _gtsrb(place)

    return prepare


def _signs_file(make: Callable[..., None]) -> Callable[[Place], Sequence[str]]:
    def prepare(place: Place) -> Sequence[str]:
        command = _gtsrb(place)
        make(place.here / "root/gtsrb/GT-final_test.csv")
        return command

    return prepare


def _no_folder(place: Place) -> Sequence[str]:
    folder = classes(place)
    (folder / "dog" / "00.png").rename(place.here / "sent.png")
    return attack(place, "folder:sent.png")


def _many(place: Place) -> Sequence[str]:
    pictures(place, 3)
    place.write("sent/labels.csv", "file,label\n00.png,0\n01.png,999999\n02.png,5\n")
    return attack(place, "images:sent?labels=labels.csv")
