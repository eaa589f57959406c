"""The sets of images of a repair: failures, successes, degraded and improved images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from robustkit.attacks import correct, predict, predicted_classes
from robustkit.class_names import distinct
from robustkit.compute import torch_generator
from robustkit.data import ImageSet, as_image_set
from robustkit.errors import DataError, RepairError, did_you_mean


@dataclass(frozen=True, eq=False)
class RepairSets:
    """Bool masks (N,) over the images of a repair set; `predicted` int64 (N,) before the repair.

    `neg` are the failures to be repaired, `pos` all images that are right. `deg` (degraded) were
    right at the previous checkpoint and are failures now, `imp` (improved) were wrong and are
    right now; both are all False where, by `history`, no previous checkpoint is known. Section 3.1
    of the source prints the last two the wrong way round; its abstract and its tables settle it.
    """

    predicted: Tensor
    neg: Tensor
    pos: Tensor
    deg: Tensor
    imp: Tensor
    history: bool = True

    def counts(self) -> dict[str, int]:
        """Return how many images are in each set."""
        return {
            f"n_{name}": int(getattr(self, name).sum()) for name in ("neg", "pos", "deg", "imp")
        }


def repair_sets(
    model: nn.Module,
    images: ImageSet,
    previous: nn.Module | None = None,
    *,
    labels: Sequence[str] = (),
    pairs: Sequence[str] = (),
) -> RepairSets:
    """Sort `images` by the predictions of `model` and of the checkpoint before it.

    `labels` (names of classes, or their numbers) keep the failures with these true labels alone;
    `pairs` ("TRUE:PREDICTED") those confusions alone. Raises `RepairError` for a class that does
    not exist, and where no failure is left.
    """
    predicted = predicted_classes(model, images.images)
    pos = predicted == images.labels
    neg = failures(predicted, images, labels, pairs)
    if not bool(neg.any()):
        among = " of the chosen labels and pairs" if labels or pairs else ""
        raise RepairError(
            f"no failures to repair{among}: the model is right on {int(pos.sum())} of "
            f"{len(images)} images"
        )
    before = pos if previous is None else correct(previous, images)
    return RepairSets(
        predicted, neg, pos, deg=before & neg, imp=~before & pos, history=previous is not None
    )


def failures(
    predicted: Tensor, images: ImageSet, labels: Sequence[str] = (), pairs: Sequence[str] = ()
) -> Tensor:
    """Return a mask (N,) of the errors of `predicted` (N,), of these labels or pairs if given."""
    wrong = predicted != images.labels
    if not labels and not pairs:
        return wrong
    chosen = torch.zeros_like(wrong)
    for name in labels:
        chosen |= images.labels == class_index(name, images.classes)
    for pair in pairs:
        true, colon, other = pair.partition(":")
        if not colon:
            raise RepairError(
                f"pair '{pair}': expected TRUE:PREDICTED, two classes (in YAML in quotes, '3:5')"
            )
        of, as_ = (class_index(each, images.classes) for each in (true, other))
        if of == as_:
            raise RepairError(f"pair '{pair}': a class is not mistaken for itself")
        chosen |= (predicted == as_) & (images.labels == of)
    return wrong & chosen


def class_index(name: str, classes: Sequence[str]) -> int:
    """Return the index of the class of this name or number; raise `RepairError` for neither."""
    if name in classes:
        return list(classes).index(name)
    if name.isdecimal() and int(name) < len(classes):
        return int(name)
    raise RepairError(f"no class '{name}'{did_you_mean(name, classes)}")


def drop_shared(held_out: ImageSet, images: ImageSet) -> tuple[ImageSet, int]:
    """Return `held_out` without images that are also among `images`, and how many those were.

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
    model: nn.Module, failures: object, held_out: object | None, seed: int
) -> tuple[ImageSet, ImageSet | None]:
    """Divide the given images into those to repair on and those to evaluate on.

    Both are anything that `data.as_image_set` takes. The first are all of `failures`, then half of
    the images of `held_out` that `model` gets right, drawn by `seed`: a search that saw failures
    alone would break what it does not see. The second are the rest of `held_out`, None where
    nothing is left. Images of `held_out` that are among `failures`, pixel for pixel, are in neither
    half.

    Raises `DataError` for what is no set, `RepairError` for sets that do not fit the model or each
    other, and where the model is right on none of the images.
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
    wrong, others = _with_equal_classes(wrong, others)
    new = torch.nonzero(_not_among(others, wrong)).squeeze(1)
    if not len(new):
        raise RepairError("every held-out image is among the failures: hold out others")
    others = others.subset(new)
    right = torch.nonzero(correct(model, others)).squeeze(1)
    if not len(right):
        _need_a_success(predict(model, wrong.images), wrong, "hold out some that it gets right")
        return wrong, others
    order = torch.randperm(len(right), generator=torch_generator("repair", "held out", seed))
    watched = right[order[: -(-len(right) // 2)]].sort().values
    rest = torch.ones(len(others), dtype=torch.bool)
    rest[watched] = False
    kept = others.subset(torch.nonzero(rest).squeeze(1)) if bool(rest.any()) else None
    return _joined(wrong, others.subset(watched)), kept


def _as_images(given: object, name: str) -> ImageSet:
    try:
        return as_image_set(given)
    except DataError as error:
        raise DataError(f"{name}: {error}") from None


def _with_all_classes(model: nn.Module, images: ImageSet, name: str) -> ImageSet:
    """Return the set with a class for each of the model's logits, named by number if need be."""
    classes = predict(model, images.images[:1]).shape[1]
    known = len(images.classes)
    if known > classes:
        raise RepairError(
            f"{name}: the images have {known} classes, the model gives {classes} logits"
        )
    return replace(images, classes=distinct([*images.classes, *map(str, range(known, classes))]))


def _with_equal_classes(wrong: ImageSet, others: ImageSet) -> tuple[ImageSet, ImageSet]:
    """Return both sets with the same classes: numbers give way to names."""
    numbers = tuple(map(str, range(len(wrong.classes))))
    if wrong.classes == numbers:
        wrong = replace(wrong, classes=others.classes)
    if others.classes == numbers:
        others = replace(others, classes=wrong.classes)
    if others.classes != wrong.classes:
        raise RepairError("failures and held-out images have other class names: give both the same")
    return wrong, others


def _need_a_success(logits: Tensor, images: ImageSet, remedy: str) -> None:
    if not bool((logits.argmax(dim=1) == images.labels).any()):
        raise RepairError(
            "the model is right on none of the images, so nothing says what a repair must not "
            f"break: {remedy}"
        )


def _joined(first: ImageSet, second: ImageSet) -> ImageSet:
    images = (
        torch.cat([first.images, second.images])
        if first.images.dtype == second.images.dtype
        else torch.cat([first.floats(), second.floats()])
    )
    return ImageSet(images, torch.cat([first.labels, second.labels]), first.classes)


def _not_among(held_out: ImageSet, images: ImageSet) -> Tensor:
    """Return a mask (N,) of the held-out images that are no copies of any of `images`."""
    alike = held_out.images.dtype == images.images.dtype
    seen = set(_contents(images, alike))
    return torch.tensor([content not in seen for content in _contents(held_out, alike)])


def _contents(images: ImageSet, as_kept: bool) -> Iterator[bytes]:
    """Yield the pixels of each image, as the set stores them or as floats."""
    for index in range(len(images)):
        image = images.images[index] if as_kept else images.floats(torch.tensor([index]))
        yield image.numpy().tobytes()
