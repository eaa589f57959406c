"""German traffic signs (Stallkamp et al. 2012), 43 classes, filmed in tracks of 30 frames."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import torch

from robustkit.data.label_table import inside
from robustkit.data.pictures import Format, StoredPictures, find_images, read_images
from robustkit.data.sources.base import Part, Request, Source, required_root, source
from robustkit.data.sources.npz import check_there, not_found, npz_under_root
from robustkit.errors import DataError
from robustkit.reading import printable, read_text
from robustkit.specs import shortened

CLASSES = tuple(f"{number:02d}" for number in range(43))
FORMAT = Format(channels=3, height=32, width=32)
FOLDER = "gtsrb"
TRAINING = Path("GTSRB", "Training")
TESTING = Path("GTSRB", "Final_Test", "Images")
TABLE = "GT-final_test.csv"
_DIGITS = 10  # of a class or a track


@source("gtsrb")
def open_gtsrb(request: Request) -> Source:
    """Offer `{root}/gtsrb.npz`, else torchvision's files resized: uint8 (3,32,32) with tracks."""
    opened = npz_under_root(request, CLASSES)
    if opened is not None:
        return opened
    base = required_root(request) / FOLDER
    try:
        if request.download and not ((base / TRAINING).is_dir() and (base / TABLE).is_file()):
            _download(base.parent)
        return Source(_train(base), _test(base), CLASSES)
    except (RuntimeError, OSError) as error:
        raise not_found(request, FOLDER, error) from error


def _download(root: Path) -> None:
    from torchvision import datasets

    for split in ("train", "test"):
        datasets.GTSRB(root, split, download=True)


def _train(base: Path) -> Part:
    """Read `Training/00042/00007_00029.ppm`: class 42, track 7, frame 29."""
    paths = find_images(base / TRAINING)
    if not paths:
        raise FileNotFoundError(f"no images in {base / TRAINING}")
    labels = [_number(path.parent.name, path) for path in paths]
    tracks = [_number(path.stem.partition("_")[0], path) for path in paths]
    return _part(paths, labels, tracks)


def _test(base: Path) -> Part:
    table = base / TABLE
    check_there([table])
    text = read_text(table, error=DataError, encoding="utf-8-sig")
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=";", skipinitialspace=True)
    paths, labels = [], []
    try:
        for column in ("Filename", "ClassId"):
            if column not in (reader.fieldnames or ()):
                raise DataError(
                    f"{table} has no column '{column}'; Filename and ClassId are needed"
                )
        for row in reader:
            where = f"{table}, line {reader.line_num}"
            paths.append(base / TESTING / inside(row["Filename"] or "", where))
            labels.append(_number(row["ClassId"] or "", where))
    except csv.Error as error:
        raise DataError(f"{table}, line {reader.reader.line_num}: not CSV ({error})") from None
    return _part(paths, labels, None)


def _part(paths: list[Path], labels: list[int], tracks: list[int] | None) -> Part:
    return Part(
        labels=torch.tensor(labels, dtype=torch.int64),
        pictures=StoredPictures(
            lambda indices: read_images([paths[index] for index in indices.tolist()], FORMAT),
            FORMAT.shape,
        ),
        tracks=None if tracks is None else torch.tensor(tracks, dtype=torch.int64),
    )


def _number(text: str, where: Path | str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < _DIGITS):
        raise DataError(
            f"{where}: '{shortened(printable(text))}' should be the number of a class or track"
        )
    return int(text)
