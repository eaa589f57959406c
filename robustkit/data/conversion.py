"""An image set of whatever holds pictures and labels in Python."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from robustkit.class_names import distinct
from robustkit.compute.seeds import isolated_rng
from robustkit.data.arrays import Array, Spool, channels_first
from robustkit.data.evaluation_sets import IN_MEMORY, EvaluationSet
from robustkit.data.imageset import ImageSet, check_unit, chunks, numbered_classes, to_unit
from robustkit.data.splits import Splits
from robustkit.errors import DataError

_AT_ONCE = 64  # items of a dataset that are put together before they are kept
_GREY = frozenset({"1", "L"})
_WANTED = (
    "give an ImageSet, Splits, an EvaluationSet, a pair (images, labels), a Dataset, a DataLoader "
    "or batches (images, labels)"
)


def as_image_set(
    pictures: object, *, classes: Sequence[str] | None = None, num_classes: int | None = None
) -> ImageSet:
    """Return the image set of anything that holds pictures and labels.

    `pictures`: an ImageSet; Splits (of which test, else val, else train); an EvaluationSet, which
    is read; a pair (images, labels) of tensors or numpy arrays, the images (N,C,H,W), (N,H,W) or,
    of numpy, (N,H,W,C); a torch Dataset of items (picture, label), pictures being tensors (C,H,W),
    numpy arrays or PIL images; a DataLoader or another iterable of batches (images, labels).
    Images are uint8 or float in [0,1]; floats that lie exactly on the 256 levels k/255 become
    uint8, others stay float32. More than 64 MiB of what comes piece by piece go to a file.

    `classes` names the classes; without it they are those of the set, else `dataset.classes`, else
    the numbers below `num_classes`, else those up to the highest label.

    Raises DataError for anything else, for pictures of different sizes, values outside [0,1] and
    labels that are no whole numbers or name no class.
    """
    names = None if classes is None else tuple(classes)
    if names is not None and num_classes is not None and len(names) != num_classes:
        raise DataError(f"{len(names)} classes were named, but num_classes is {num_classes}")
    if isinstance(pictures, Splits):
        parts = pictures.parts
        pictures = parts[next(part for part in ("test", "val", "train") if part in parts)]
    if isinstance(pictures, EvaluationSet):
        known = names or pictures.classes
        pictures = pictures.read(
            classes=known or numbered_classes(pictures.labels, pictures.hints, num_classes)
        )
    if isinstance(pictures, ImageSet):
        if names is None or names == pictures.classes:
            return pictures
        return replace(pictures, classes=names)
    images, labels = _collected(pictures)
    names = names or _classes_of(pictures) or numbered_classes(labels, {}, num_classes)
    return ImageSet(images, labels, names)


def _collected(pictures: object) -> tuple[Tensor, Tensor]:
    """Return images (N,C,H,W), uint8 or float32, and labels int64 (N,)."""
    pair = _pair(pictures)
    if pair is not None:
        return _whole(_pixels(pair[0])), _labels(pair[1])
    if isinstance(pictures, str | bytes | dict | Tensor | np.ndarray):
        raise DataError(f"no pictures and labels in {_kind(pictures)}; {_WANTED}")
    with isolated_rng():  # a loader draws a seed, and a transform may draw anything
        return _gathered(_batches(pictures))


def _pair(pictures: object) -> tuple[Any, Any] | None:
    """Return (images, labels) where `given` is such a pair and not two batches."""
    if not isinstance(pictures, tuple | list) or len(pictures) != 2:
        return None
    images, labels = pictures
    if not isinstance(images, Tensor | np.ndarray):
        return None
    listed = isinstance(labels, list | tuple) and all(isinstance(label, int) for label in labels)
    return (images, labels) if listed or isinstance(labels, Tensor | np.ndarray) else None


def _batches(pictures: object) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of images and labels, whatever they come in."""
    if isinstance(pictures, Dataset):
        for items in _chunked(_items(pictures)):
            yield _stacked([picture for picture, _ in items]), _labels([item for _, item in items])
    elif isinstance(pictures, Iterable):
        for batch in pictures:
            images, labels = _two(batch, "a batch")
            listed = isinstance(images, list | tuple)
            yield _stacked(images) if listed else _pixels(images), _labels(labels)
    else:
        raise DataError(f"no pictures and labels in {_kind(pictures)}; {_WANTED}")


def _items(dataset: Dataset[Any]) -> Iterator[tuple[Any, Any]]:
    if isinstance(dataset, IterableDataset):
        items_ = iter(dataset)
    elif hasattr(dataset, "__len__"):
        items_ = (dataset[index] for index in range(len(dataset)))
    else:
        raise DataError(f"{_kind(dataset)} has no length: how many pictures it holds is not known")
    for item in items_:
        yield _two(item, "an item of the dataset")


def _chunked(items: Iterator[tuple[Any, Any]]) -> Iterator[list[tuple[Any, Any]]]:
    while batch := list(itertools.islice(items, _AT_ONCE)):
        yield batch


def _two(value: object, what: str) -> tuple[Any, Any]:
    """Return picture(s) and label(s), of which more may follow."""
    if not isinstance(value, tuple | list) or len(value) < 2:
        raise DataError(f"{what} must be (images, labels), not {_kind(value)}")
    return value[0], value[1]


def _stacked(pictures: Sequence[Any]) -> Tensor:
    """Return one tensor (n,C,H,W) of single pictures."""
    rows = [_pixels(_single(picture)) for picture in pictures]
    if not rows:
        raise DataError("a batch without pictures")
    for row in rows:
        _check_alike(row, rows[0])
    if len({row.dtype for row in rows}) > 1:
        rows = [_as_float(row) for row in rows]
    return torch.cat(rows)


def _single(picture: object) -> Tensor | Array:
    """Return a picture as an array with a first axis of one."""
    if isinstance(picture, Image.Image):
        if picture.mode.startswith(("I", "F")):
            raise DataError(f"a picture has mode {picture.mode}; 8 bits per channel are needed")
        picture = np.array(picture.convert("L" if picture.mode in _GREY else "RGB"))
    if isinstance(picture, Tensor | np.ndarray):
        return picture[None]
    raise DataError(
        f"a picture must be a tensor, a numpy array or a PIL image, not {_kind(picture)}"
    )


def _pixels(images: object) -> Tensor:
    """Return uint8 or float32 (N,C,H,W) in memory, from a tensor or an array in a known layout."""
    if isinstance(images, np.ndarray):
        if images.dtype.kind not in "uif":
            raise DataError(f"images must be uint8 or float in [0,1], not {images.dtype}")
        images = images if images.dtype.kind != "f" else images.astype(np.float32, copy=False)
        images = torch.from_numpy(np.ascontiguousarray(channels_first(images, "images")))
    elif not isinstance(images, Tensor):
        raise DataError(f"images must be a tensor or a numpy array, not {_kind(images)}")
    images = images.detach().cpu()
    shape = tuple(images.shape)
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim != 4 or images.numel() == 0:
        raise DataError(f"images must be (N,C,H,W), and at least one, not {shape}")
    if shape[1] not in (1, 3) and shape[-1] in (1, 3):
        raise DataError(
            f"images of shape {shape} have their channels last; permute(0, 3, 1, 2) them"
        )
    if images.dtype == torch.uint8:
        return images
    if not images.is_floating_point():
        raise DataError(f"images must be uint8 in 0..255 or float in [0,1], not {images.dtype}")
    for rows in chunks(images):
        check_unit(images[rows])
    return images.float()


def _gathered(batches: Iterator[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return all batches as one, exact levels as long as every picture lies on them."""
    spool, exact = Spool(IN_MEMORY), True
    labels: list[Tensor] = []
    first = None
    for images, numbers in batches:
        if len(numbers) != len(images):
            raise DataError(f"{len(images)} pictures came with {len(numbers)} labels")
        first = images if first is None else first
        _check_alike(images, first)
        levels = _levels(images) if exact else None
        if exact and levels is None:
            spool, exact = _floats(spool), False
        # A copy: a loader's workers share their memory, of which there is not much.
        spool.append((_as_float(images) if levels is None else levels).numpy().copy())
        labels.append(numbers)
        first = first[:1]
    if first is None:
        raise DataError("no images: there is no picture in it")
    return torch.from_numpy(spool.array()), torch.cat(labels)


def _floats(spool: Spool) -> Spool:
    """Return a spool of the same pictures as float32 in [0,1]."""
    floats = Spool(IN_MEMORY)
    if len(spool):
        images = torch.from_numpy(spool.array())
        for rows in chunks(images):
            floats.append(to_unit(images[rows]).numpy())
    return floats


def _whole(images: Tensor) -> Tensor:
    """Return `images` as levels where all of them lie on levels, else as they are."""
    if images.dtype == torch.uint8 or not all(
        _levels(images[rows]) is not None for rows in chunks(images)
    ):
        return images
    levels = torch.empty(images.shape, dtype=torch.uint8)
    for rows in chunks(images):
        levels[rows] = (images[rows] * 255).round().byte()
    return levels


def _levels(images: Tensor) -> Tensor | None:
    """Return uint8 pixels that `to_unit` turns into exactly these images, or None without such."""
    if images.dtype == torch.uint8:
        return images
    levels = (images * 255).round().byte()
    return levels if torch.equal(to_unit(levels), images) else None


def _as_float(images: Tensor) -> Tensor:
    return to_unit(images) if images.dtype == torch.uint8 else images


def _check_alike(images: Tensor, first: Tensor) -> None:
    if images.shape[1:] != first.shape[1:]:
        raise DataError(
            f"pictures differ in shape: {tuple(images.shape[1:])} and {tuple(first.shape[1:])}; "
            f"bring all of them to one size in the dataset's transform"
        )


def _labels(labels: object) -> Tensor:
    """Return labels as int64 (n,), from whatever whole numbers they are."""
    try:
        if isinstance(labels, list | tuple):
            rows = [torch.as_tensor(label) for label in labels]
            if any(row.numel() != 1 for row in rows):
                raise DataError(f"labels must be one whole number per picture, not {labels[0]!r}")
            given = torch.stack([row.reshape(()) for row in rows]) if rows else torch.empty(0)
        else:
            given = torch.as_tensor(labels).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"labels must be whole numbers, not {_kind(labels)}") from error
    if (
        given.ndim != 1
        or given.is_floating_point()
        or given.is_complex()
        or given.dtype == torch.bool
    ):
        raise DataError(
            f"labels must be one whole number per picture, not {given.dtype} {tuple(given.shape)}"
        )
    return given.long()


def _classes_of(pictures: object) -> tuple[str, ...] | None:
    """Return the names that a dataset has, also below a loader or a subset."""
    while pictures is not None:
        names = getattr(pictures, "classes", None)
        if (
            isinstance(names, list | tuple)
            and names
            and all(isinstance(name, str) for name in names)
        ):
            return distinct(names)
        below = isinstance(pictures, DataLoader | Dataset)
        pictures = getattr(pictures, "dataset", None) if below else None
    return None


def _kind(value: object) -> str:
    return f"a {type(value).__name__}"
