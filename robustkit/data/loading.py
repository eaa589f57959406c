"""From the name of a source to its three splits."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from robustkit.compute.seeds import check_seed
from robustkit.data import sources  # noqa: F401 — importing it fills SOURCES
from robustkit.data.imageset import ImageSet, Splits
from robustkit.data.registry import SOURCES, Part, Request, Source
from robustkit.data.sampling import stratified_sample, stratified_split
from robustkit.errors import DataError, did_you_mean

ROOT_VARIABLE = "ROBUSTKIT_DATA"


def load(
    source: str,
    *,
    root: Path | str | None = None,
    download: bool = False,
    train_size: int | None = None,
    val_fraction: float = 0.1,
    seed: int = 0,
) -> Splits:
    """Load the splits of `source`.

    `source`: "digits" (embedded), "mnist", "fashion_mnist", "cifar10", "gtsrb" (under `root`,
    by default the folder that ROBUSTKIT_DATA names), "npz:PATH" or "folder:PATH". Nothing is
    fetched from a network unless `download` is set.

    Validation images are `val_fraction` of the source's training images, stratified by class and
    never dividing a track. They depend on `seed` but not on `train_size`, which then keeps that
    many of the remaining images for training, stratified as well.

    Raises DataError or ConfigError, naming the file, key, class or number at fault.
    """
    check_seed(seed)
    root = root if root is not None else os.environ.get(ROOT_VARIABLE) or None
    opened = _open(source, None if root is None else Path(root).expanduser(), download)
    try:
        _check_labels(opened)
        train, val = stratified_split(
            opened.train.labels, val_fraction, seed, tracks=opened.train.tracks
        )
        if train_size is not None:
            train = train[stratified_sample(opened.train.labels[train], train_size, seed)]
    except DataError as error:
        raise DataError(f"{source}: {error}") from error
    return Splits(
        train=_read(opened.train, train, opened.classes),
        val=_read(opened.train, val, opened.classes),
        test=_read(opened.test, torch.arange(len(opened.test.labels)), opened.classes),
        name=source,
    )


def _open(source: str, root: Path | None, download: bool) -> Source:
    name, colon, argument = source.partition(":")
    entry = SOURCES.get(name)
    if entry is None:
        known = (f"{key}:PATH" if SOURCES[key].takes_path else key for key in SOURCES)
        raise DataError(f"unknown data '{name}'{did_you_mean(name, known)}")
    if entry.takes_path and not argument:
        raise DataError(f"'{source}' lacks a path; write {name}:PATH")
    if colon and not entry.takes_path:
        raise DataError(f"'{name}' takes no path, so '{source}' cannot be; write {name}")
    return entry.open(Request(name, argument, root, download))


def _check_labels(source: Source) -> None:
    """Refuse labels that name no class, and classes that no training image shows."""
    count = len(source.classes)
    if count < 2:
        raise DataError(f"only one class, {source.classes}; a classifier needs at least two")
    for split, part in (("train", source.train), ("test", source.test)):
        if len(part.labels) == 0:
            raise DataError(f"an empty split: no {split} images")
        highest = int(part.labels.max())
        if highest >= count:
            raise DataError(
                f"{split} labels go up to {highest}, but {count} classes allow 0 to {count - 1}"
            )
    seen = torch.bincount(source.train.labels, minlength=count)
    if not seen.all():
        absent = source.classes[int(seen.argmin())]
        raise DataError(f"class '{absent}' has no training image; every class needs one")


def _read(part: Part, indices: Tensor, classes: tuple[str, ...]) -> ImageSet:
    tracks = None if part.tracks is None else part.tracks[indices]
    return ImageSet(part.read(indices), part.labels[indices], classes, tracks)
