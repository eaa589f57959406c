"""The class orders of the published sets."""

from __future__ import annotations

import os
from pathlib import Path

from robustkit.data.voc_layout import LISTED
from robustkit.errors import DataError
from robustkit.reading import is_printable, printable, read_text

VOC = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
SIX = ("bicycle", "bird", "car", "cat", "dog", "person")  # of Watercolor2k and Comic2k


def classes_of(folder: Path) -> tuple[str, ...]:
    """The classes of a set in VOC layout, in their order.

    Those in its `classes.txt`, one a line; without that file Watercolor2k's and Comic2k's six where
    the folder is called so, and VOC's twenty, which are Clipart1k's too. Raises `DataError` for a
    file that lists none, or one twice.
    """
    file = folder / LISTED
    if not os.path.lexists(file):
        called = folder.name.lower()
        return SIX if called.startswith(("watercolor", "comic")) else VOC
    text = read_text(file, error=DataError)
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not names or len(set(names)) < len(names):
        raise DataError(f"{file}: one class a line, each once")
    for name in names:
        if not is_printable(name):
            raise DataError(f"{file}: the class '{printable(name)}' holds control characters")
    return names
