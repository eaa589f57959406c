"""From the spec of a source to its splits."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robustkit.compute.seeds import check_seed
from robustkit.data import sources  # noqa: F401
from robustkit.data.arrays import read_npz, to_labels, to_nchw
from robustkit.data.imageset import ImageSet, numbered_classes
from robustkit.data.pictures import SUFFIXES, Format, PictureFiles, joined
from robustkit.data.sampling import stratified_sample, stratified_split
from robustkit.data.sources.base import (
    PARTS,
    SOURCES,
    Part,
    Request,
    Source,
    check_options,
    geometry_of,
    parse_spec,
)
from robustkit.data.sources.folder import is_wnid
from robustkit.data.splits import Splits, missing_part
from robustkit.errors import DataError, did_you_mean
from robustkit.geometry import Geometry
from robustkit.reading import is_printable, printable, typed_path

ROOT_VARIABLE = "ROBUSTKIT_DATA"
VAL_FRACTION = 0.1


def load(
    source: str,
    *,
    root: Path | str | None = None,
    download: bool = False,
    train_size: int | None = None,
    val_fraction: float = VAL_FRACTION,
    seed: int = 0,
) -> Splits:
    """Load the splits of `source`, of which an evaluation set lacks those that nothing trains on.

    `source`: "digits" (embedded), "mnist", "fashion_mnist", "cifar10", "cifar100", "cifar10c",
    "svhn", "gtsrb" (under `root`, by default the folder that ROBUSTKIT_DATA names), "npz:PATH",
    "folder:PATH", "images:PATH?labels=FILE" or "imagenet:PATH", the last three with options for
    size and crop. Nothing is fetched from a network unless `download` is set.

    Validation images are the source's own, else `val_fraction` of its training images, stratified
    by class and never dividing a track. They depend on `seed` but not on `train_size`, which then
    keeps that many of the remaining images for training, stratified as well. Where a source does
    not know how many classes there are, they go up to the highest label.

    Raises DataError or ConfigError, naming the file, key, class or number at fault.
    """
    check_seed(seed)
    opened = open_source(source, root, download)
    try:
        classes = opened.classes or _numbered(opened)
        _check_labels(opened, classes)
        train, val = divided(opened, val_fraction, seed)
        if train_size is not None:
            if opened.train is None:
                raise missing_part(source, "train", opened.parts())
            labels = opened.train.labels[train]
            train = train[stratified_sample(labels, train_size, seed)]
        geometry, form = opened.geometry, _common_form(opened)
    except DataError as error:
        raise named(source, error) from error

    def read(part: Part | None, indices: Tensor) -> ImageSet | None:
        return None if part is None else _read(part, indices, classes, geometry, form)

    validation = opened.val
    return Splits(
        train=read(opened.train, train),
        val=read(validation or opened.train, positions(validation) if validation else val),
        test=read(opened.test, positions(opened.test)),
        name=source,
    )


def open_source(source: str, root: Path | str | None, download: bool) -> Source:
    """Open what the spec `source` names, without decoding a picture; raises DataError."""
    root = root if root is not None else os.environ.get(ROOT_VARIABLE) or None
    spec = parse_spec(source)
    entry = SOURCES.get(spec.name)
    if entry is None:
        known = (f"{key}:PATH" if SOURCES[key].takes_path else key for key in SOURCES)
        raise DataError(
            f"unknown data '{spec.name}'" + (_meant(spec.text) or did_you_mean(spec.name, known))
        )
    if entry.takes_path and not spec.path:
        raise DataError(f"'{source}' lacks a path; write {spec.name}:PATH")
    if spec.has_path and not entry.takes_path:
        raise DataError(f"'{spec.name}' takes no path, so '{source}' cannot be; write {spec.name}")
    check_options(spec, entry.options)
    folder = None if root is None else typed_path(root, error=DataError)
    geometry = geometry_of(spec)
    return entry.open(Request(spec.name, spec.path, folder, download, spec.options, geometry))


def divided(source: Source, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return positions in the training images for training and for validation.

    All of them are for training where the source has validation images of its own; both are empty
    where it has no training images.
    """
    if source.train is None:
        return torch.arange(0), torch.arange(0)
    if source.val is not None:
        return positions(source.train), torch.arange(0)
    return stratified_split(source.train.labels, fraction, seed, tracks=source.train.tracks)


def named(source: str, error: DataError) -> DataError:
    """Return the error with the name of the source before it, once."""
    text, prefix = str(error), f"{source}: "
    return DataError(text if text.startswith(prefix) else prefix + text)


def positions(part: Part | None) -> Tensor:
    """Return all positions of a part, int64; none of a part that is not there."""
    return torch.arange(0 if part is None else len(part.labels))


def _meant(text: str) -> str:
    """Return a hint at the spec that a bare path may have been meant as, or ""."""
    head, mark, options = text.partition("?")
    path, rest = typed_path(head or ".", error=DataError), mark + options
    if head.endswith(".npz"):
        return f"; did you mean 'npz:{head}'?"
    if not head or not path.is_dir():
        return ""
    inside = [item for item in path.iterdir() if item.is_dir()]
    inside += [item for part in inside if part.name in PARTS for item in part.iterdir()]
    if any(is_wnid(item.name) for item in inside):
        return f"; did you mean 'imagenet:{head}{rest}'?"
    if any(item.suffix.lower() in SUFFIXES for item in path.iterdir()):
        return f"; did you mean 'images:{head}?labels=FILE.csv'?"
    return f"; did you mean 'folder:{head}{rest}'?"


def _numbered(source: Source) -> tuple[str, ...]:
    """Return classes up to the highest label, by their known names, else by their numbers."""
    labels = torch.cat([part.labels for part in source.parts().values()])
    return numbered_classes(labels, source.hints)


def _check_labels(source: Source, classes: tuple[str, ...]) -> None:
    """Refuse labels that name no class, and classes that no training image shows."""
    check_classes(classes)
    for split, part in source.parts().items():
        check_part(split, part.labels, classes)
    if source.train is None:
        return
    seen = torch.bincount(source.train.labels, minlength=len(classes))
    if not seen.all():
        absent = classes[int(seen.argmin())]
        raise DataError(f"class '{absent}' has no training image; every class needs one")


def check_classes(classes: tuple[str, ...]) -> None:
    """Raise DataError for fewer than two classes, and for names that cannot be printed."""
    if len(classes) < 2:
        raise DataError(f"only one class, {classes}; a classifier needs at least two")
    for name in classes:
        if not is_printable(name):
            raise DataError(
                f"the class name '{printable(name)}' is not UTF-8 without control characters"
            )


def check_part(split: str, labels: Tensor, classes: tuple[str, ...] | None) -> None:
    """Raise DataError for a part without images, or with labels that name none of `classes`."""
    if len(labels) == 0:
        raise DataError(f"an empty split: no {split} images")
    highest = int(labels.max())
    if classes is not None and highest >= len(classes):
        raise DataError(
            f"{split} labels go up to {highest}, but {len(classes)} classes allow 0 to "
            f"{len(classes) - 1}"
        )


def _common_form(source: Source) -> Format | None:
    """Return what all image files of a source become: one colour picture makes all of them RGB."""
    pictures = [part.pictures for part in source.parts().values()]
    files = [picture for picture in pictures if isinstance(picture, PictureFiles)]
    if not files:
        return None
    whole = joined(files)
    return whole.form(torch.arange(len(whole.paths)), source.geometry)


def _read(
    part: Part,
    indices: Tensor,
    classes: tuple[str, ...],
    geometry: Geometry | None,
    form: Format | None,
) -> ImageSet:
    tracks = None if part.tracks is None else part.tracks[indices]
    pixels = part.pictures.read(indices, form or part.pictures.form(indices, geometry))
    return ImageSet(pixels, part.labels[indices], classes, tracks)


def read_image_file(path: Path, like: ImageSet) -> ImageSet:
    """Return the `images` and `labels` of a .npz file, with the image shape and classes of `like`.

    Images are uint8, or float in [0,1], which is rounded to the nearest of 256 levels; (N,C,H,W),
    (N,H,W,C) or (N,H,W). Raises DataError naming the file and what does not fit.
    """
    arrays = read_npz(path, ("images", "labels"), ())
    pixels = arrays["images"]
    if pixels.dtype.kind == "f":
        low, high = (float(pixels.min()), float(pixels.max())) if pixels.size else (0.0, 0.0)
        if not (low >= 0 and high <= 1):
            raise DataError(f"{path}: float images must lie in [0,1], not in [{low:g}, {high:g}]")
        pixels = np.round(255 * pixels).astype(np.uint8)
    images = to_nchw(pixels, f"{path}: images")
    labels = to_labels(arrays["labels"], len(images), f"{path}: labels")
    if tuple(images.shape[1:]) != like.shape:
        raise DataError(f"{path}: images are {tuple(images.shape[1:])}, the data's {like.shape}")
    if int(labels.max()) >= like.num_classes:
        raise DataError(
            f"{path}: label {int(labels.max())}; the data's {like.num_classes} classes allow 0 to "
            f"{like.num_classes - 1}"
        )
    return ImageSet(images, labels, like.classes)
