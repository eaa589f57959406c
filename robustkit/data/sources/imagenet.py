"""Folders of ImageNet's classes (ILSVRC2012, Russakovsky et al. 2015), named by wnid."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from pathlib import Path

from robustkit.data.registry import PARTS, Part, Request, Source, source
from robustkit.data.sources.folder import labelled_part, subfolders
from robustkit.data.specs import GEOMETRY_OPTIONS
from robustkit.errors import DataError
from robustkit.naming import imagenet_classes
from robustkit.reading import typed_path

WNIDS = "imagenet_wnids.txt"  # one a line, in their order


@source("imagenet", takes_path=True, options=GEOMETRY_OPTIONS)
def open_imagenet(request: Request) -> Source:
    """Offer `imagenet:PATH`, the classes in the usual order even where only some folders are there.

    PATH holds folders named by wnid, which are for testing, or any of `train/`, `val/` and `test/`
    with such folders. Raises DataError naming the folder at fault.
    """
    root = typed_path(request.argument, error=DataError)
    names = subfolders(root)
    if set(names) <= set(PARTS):
        parts = {name: _part(root / name) for name in names}
    else:
        parts = {"test": _part(root)}
    return Source(
        train=parts.get("train"),
        val=parts.get("val"),
        test=parts.get("test"),
        classes=imagenet_classes(),
        geometry=request.geometry,
    )


@cache
def imagenet_wnids() -> dict[str, int]:
    """Return the index of every class by its wnid, the 1,000 of them sorted."""
    text = resources.files("robustkit.data").joinpath(WNIDS).read_text(encoding="ascii")
    return {wnid: index for index, wnid in enumerate(text.split())}


def is_wnid(name: str) -> bool:
    """Whether a name looks like a wnid: n and eight digits."""
    return re.fullmatch(r"n[0-9]{8}", name) is not None


def _part(folder: Path) -> Part:
    known = imagenet_wnids()
    names = subfolders(folder)
    for name in names:
        if name not in known:
            raise DataError(
                f"{folder} holds '{name}', which is no wnid of ILSVRC2012's 1,000 classes; "
                f"expected folders like n01440764"
            )
    return labelled_part(folder, {name: known[name] for name in names}, allow_none=True)
