"""Images to repair on, and images to judge a repair on that were not repaired on."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from robustkit.attacks import predict
from robustkit.compute import torch_generator
from robustkit.data import ImageSet
from robustkit.errors import DataError, RepairError

Images = ImageSet | tuple[Tensor, Tensor]
"""An image set, or images (N,C,H,W), uint8 or float in [0,1], with labels int64 (N,)."""


def drop_shared(held_out: ImageSet, images: ImageSet) -> tuple[ImageSet, int]:
    """`held_out` without what is also among `images`, pixel for pixel, and how many that were.

    Data sets hold natural duplicates, and those are dropped. Raises `RepairError` where more than
    half of `held_out` is shared: then it is the repair set, and proves nothing.
    """
    own = _not_among(held_out, images)
    dropped = len(own) - int(own.sum())
    if 2 * dropped > len(own):
        raise RepairError(
            f"{dropped} of the {len(own)} held-out images are images repaired on: they prove "
            "nothing; hold out others, or say that the paper's protocol is meant"
        )
    return (held_out.subset(torch.nonzero(own).squeeze(1)) if dropped else held_out), dropped


def gather(
    model: nn.Module, failures: Images, held_out: Images | None, seed: int
) -> tuple[ImageSet, ImageSet | None]:
    """Divide what is given into images to repair on and images to judge on.

    The first are all of `failures`, then half of the images of `held_out` that `model` gets right,
    drawn by `seed`: a search that saw failures alone would break what it does not see. The second
    are the rest of `held_out`, None where nothing is left. Images of `held_out` that are among
    `failures`, pixel for pixel, are in neither half.

    Raises `RepairError` for sets that do not fit the model or each other, and where the model is
    right on none of the images.
    """
    wrong = _as_images(failures, "failures")
    others = None if held_out is None else _as_images(held_out, "held_out")
    if others is not None and others.shape != wrong.shape:
        raise RepairError(
            f"failures are {wrong.shape} and held-out images {others.shape} (C,H,W): give both in "
            "one size"
        )
    wrong = _with_all_classes(model, wrong, "failures")
    if others is None:
        _need_a_success(predict(model, wrong.images), wrong, "give held_out images, too")
        return wrong, None
    others = _with_all_classes(model, others, "held_out")
    if others.classes != wrong.classes:
        raise RepairError("failures and held-out images have other class names: give both the same")
    new = torch.nonzero(_not_among(others, wrong)).squeeze(1)
    if not len(new):
        raise RepairError("every held-out image is among the failures: hold out others")
    others = others.subset(new)
    right = torch.nonzero(predict(model, others.images).argmax(dim=1) == others.labels).squeeze(1)
    if not len(right):
        _need_a_success(predict(model, wrong.images), wrong, "hold out some that it gets right")
        return wrong, others
    order = torch.randperm(len(right), generator=torch_generator("repair", "held out", seed))
    watched = right[order[: -(-len(right) // 2)]].sort().values
    rest = torch.ones(len(others), dtype=torch.bool)
    rest[watched] = False
    kept = others.subset(torch.nonzero(rest).squeeze(1)) if bool(rest.any()) else None
    return _joined(wrong, others.subset(watched)), kept


def _as_images(given: Images, name: str) -> ImageSet:
    return given if isinstance(given, ImageSet) else _from_pair(given, name)


def _with_all_classes(model: nn.Module, images: ImageSet, name: str) -> ImageSet:
    """The set with a class for each of the model's logits, those without a name by number."""
    classes = predict(model, images.images[:1]).shape[1]
    known = len(images.classes)
    if known > classes:
        raise RepairError(
            f"{name}: the images have {known} classes, the model gives {classes} logits"
        )
    return replace(images, classes=(*images.classes, *map(str, range(known, classes))))


def _from_pair(given: object, name: str) -> ImageSet:
    pair = tuple(given) if isinstance(given, tuple | list) else ()
    if len(pair) != 2 or not all(isinstance(each, Tensor) for each in pair):
        raise RepairError(
            f"{name} must be an ImageSet or (images, labels), not {type(given).__name__}"
        )
    images, labels = pair
    if images.is_floating_point():
        images = _levels(images, name)
    try:
        count = max(int(labels.max()) + 1, 2) if labels.numel() else 2
        return ImageSet(images.cpu(), labels.cpu(), tuple(map(str, range(count))))
    except DataError as error:
        raise RepairError(f"{name}: {error}") from None


def _levels(images: Tensor, name: str) -> Tensor:
    """Uint8 of float images in [0,1], as sets hold them."""
    low, high = (float(bound) for bound in torch.aminmax(images)) if images.numel() else (0.0, 0.0)
    if not (low >= 0 and high <= 1):
        raise RepairError(f"{name}: float images must be in [0,1], not in [{low:g}, {high:g}]")
    return (images * 255).round().to(torch.uint8)


def _need_a_success(logits: Tensor, images: ImageSet, remedy: str) -> None:
    if not bool((logits.argmax(dim=1) == images.labels).any()):
        raise RepairError(
            "the model is right on none of the images, so nothing says what a repair must not "
            f"break: {remedy}"
        )


def _joined(first: ImageSet, second: ImageSet) -> ImageSet:
    images = torch.cat([first.images, second.images])
    return ImageSet(images, torch.cat([first.labels, second.labels]), first.classes)


def _not_among(held_out: ImageSet, images: ImageSet) -> Tensor:
    """Bool (N,): which held-out images are no copies of any of `images`."""
    seen = set(_contents(images.images))
    return torch.tensor([content not in seen for content in _contents(held_out.images)])


def _contents(images: Tensor) -> list[bytes]:
    return [image.tobytes() for image in images.numpy()]
