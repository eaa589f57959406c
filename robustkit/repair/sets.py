"""Which images a repair is about: failures, successes, and what changed in training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustkit.attacks import predict
from robustkit.data import ImageSet
from robustkit.errors import RepairError, did_you_mean


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
        """How many images are in each set."""
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
    """Sort `images` by what `model`, and the checkpoint before it, say of them.

    `labels` (names of classes, or their numbers) keep the failures with these true labels alone;
    `pairs` ("TRUE:PREDICTED") those confusions alone. Raises `RepairError` for a class that does
    not exist, and where no failure is left.
    """
    predicted = predict(model, images.images).argmax(dim=1)
    pos = predicted == images.labels
    neg = failures(predicted, images, labels, pairs)
    if not bool(neg.any()):
        among = " of the chosen labels and pairs" if labels or pairs else ""
        raise RepairError(
            f"no failures to repair{among}: the model is right on {int(pos.sum())} of "
            f"{len(images)} images"
        )
    before = (
        pos if previous is None else predict(previous, images.images).argmax(1) == images.labels
    )
    return RepairSets(
        predicted, neg, pos, deg=before & neg, imp=~before & pos, history=previous is not None
    )


def failures(
    predicted: Tensor, images: ImageSet, labels: Sequence[str] = (), pairs: Sequence[str] = ()
) -> Tensor:
    """Bool (N,): wrongly `predicted` (N,), and of these labels or pairs, where any are given."""
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
    """The number of the class called `name`, or numbered so; raises `RepairError` for neither."""
    if name in classes:
        return list(classes).index(name)
    if name.isdecimal() and int(name) < len(classes):
        return int(name)
    raise RepairError(f"no class '{name}'{did_you_mean(name, classes)}")
