"""Pictures in one flat folder and a file of their labels: what transfer papers evaluate on."""

from __future__ import annotations

import os
import posixpath
from pathlib import Path

import torch

from robustkit.data.label_table import read_label_table
from robustkit.data.pictures import PictureFiles, is_folder, is_image
from robustkit.data.sources.base import GEOMETRY_OPTIONS, Part, Request, Source, source
from robustkit.errors import DataError
from robustkit.reading import typed_path


@source("images", takes_path=True, options=("labels", "column", "filename", *GEOMETRY_OPTIONS))
def open_images(request: Request) -> Source:
    """Offer `images:DIR?labels=FILE.csv`, an evaluation set: all of it is for testing.

    FILE is looked for in DIR, then in the current folder; see `read_label_table` for what it
    holds. Raises DataError naming the file, column, line or picture at fault.
    """
    folder = typed_path(request.argument, error=DataError)
    if not folder.is_dir():
        raise DataError(f"no such folder: {folder}")
    file = _label_file(folder, request.options.get("labels"))
    table = read_label_table(
        file, filename=request.options.get("filename"), column=request.options.get("column")
    )
    there = _listed(folder, {posixpath.dirname(name) for name in table.filenames})
    missing = [name for name in table.filenames if name not in there]
    if missing:
        raise DataError(
            f"{folder}: {len(missing):,} of {len(table.filenames):,} pictures that {file} names "
            f"are missing, first '{missing[0]}'"
        )
    left = sum(map(is_image, there - set(table.filenames)))
    note = f"{left:,} pictures in {folder} have no label in {file} and are left out"
    labels = torch.tensor(table.labels, dtype=torch.int64)
    paths = [os.path.join(folder, name) for name in table.filenames]  # noqa: PTH118 — thousands
    return Source(
        train=None,
        test=Part(labels, PictureFiles(paths)),
        classes=table.classes,
        geometry=request.geometry,
        hints=table.hints,
        notes=(note,) if left else (),
    )


def _label_file(folder: Path, given: str | None) -> Path:
    if given is None:
        tables = sorted(item.name for item in folder.glob("*.csv"))
        name = tables[0] if tables else "FILE.csv"
        raise DataError(
            f"{folder}: pictures need their labels; write images:{folder}?labels={name}"
        )
    path = typed_path(given, error=DataError)
    for candidate in (folder / path, path):
        if os.path.lexists(candidate):
            return candidate
    beside = (folder.resolve().parent / path).is_file()
    raise DataError(
        f"no label file {given}, neither in {folder} nor in the current folder"
        + (f"; did you mean labels=../{given}?" if beside else "")
    )


def _listed(folder: Path, below: set[str]) -> set[str]:
    """Return the files in `folder` and in those of its sub-folders that are named."""
    files_: set[str] = set()
    for name in below | {""}:
        prefix = f"{name}/" if name else ""
        if not (folder / name).is_dir():
            continue
        with os.scandir(folder / name) as entries:
            files_.update(prefix + entry.name for entry in entries if not is_folder(entry))
    return files_
