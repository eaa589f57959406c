"""German traffic signs (Stallkamp et al. 2012), 43 classes, filmed in tracks of 30 frames."""

from __future__ import annotations

import csv
from pathlib import Path

import torch

from robustkit.data.files import find_images, read_images
from robustkit.data.pictures import Format, StoredPictures
from robustkit.data.registry import Part, Request, Source, required_root, source
from robustkit.data.sources.npz import not_found, npz_under_root
from robustkit.errors import DataError

CLASSES = tuple(f"{number:02d}" for number in range(43))
FORMAT = Format(channels=3, height=32, width=32)
FOLDER = "gtsrb"
TRAINING = Path("GTSRB", "Training")
TESTING = Path("GTSRB", "Final_Test", "Images")
TABLE = "GT-final_test.csv"


@source("gtsrb")
def open_gtsrb(request: Request) -> Source:
    """Offer `{root}/gtsrb.npz`, else torchvision's files resized: uint8 (3,32,32) with tracks."""
    found = npz_under_root(request, CLASSES)
    if found is not None:
        return found
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
    with table.open(newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter=";", skipinitialspace=True))
    try:
        paths = [base / TESTING / row["Filename"] for row in rows]
        labels = [_number(row["ClassId"], table) for row in rows]
    except KeyError as error:
        raise DataError(
            f"{table} has no column {error}; Filename and ClassId are needed"
        ) from error
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


def _number(text: str, where: Path) -> int:
    if not text.isdecimal():
        raise DataError(f"{where}: '{text}' should be the number of a class or track")
    return int(text)
