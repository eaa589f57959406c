"""Logits of a model on many images, and whether they are logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from robustkit.attacks.purity import pure
from robustkit.compute import Note, fitting_batches, on_device
from robustkit.compute.batching import warn
from robustkit.data import ImageSet, to_unit
from robustkit.errors import DataError, ModelError
from robustkit.models import Classifier, matched

# Images computed at once where they fit: what committed results were computed with.
BATCH = 500


@torch.no_grad()
def predict(
    model: nn.Module,
    images: Tensor,
    *,
    batch_size: int | None = None,
    device: torch.device | None = None,
    on_note: Note = warn,
) -> Tensor:
    """Logits (N,K) on the CPU of `images` (N,C,H,W), uint8 or float in [0,1].

    In evaluation mode and in batches of `batch_size`, by default 500 or as many as fit, so that N
    may exceed memory; the model is left as it was. It is moved to `device` for as long, and a batch
    that does not fit there is halved, of which `on_note` is told. Raises `ModelError` for a model
    that gives no (N,K) logits, `DeviceError` where not even one image fits.
    """
    with on_device(model, device) as place, pure(model):
        batches = fitting_batches(
            model,
            tuple(images.shape[1:]),
            chosen=batch_size,
            most=BATCH,
            backward=False,
            on_note=on_note,
        )

        def logits(part: slice) -> Tensor:
            some = images[part]
            # Copied: the images may lie on a file, and a model may write into what it is given.
            pixels = (
                to_unit(some.to(place)) if some.dtype == torch.uint8 else some.to(place, copy=True)
            )
            made: Tensor = model(pixels)
            check_logits(made, model, len(some))
            return made.float().cpu()

        return torch.cat([made for _, made in batches.over(len(images), logits)])


def check_logits(outputs: Any, model: nn.Module, count: int | None = None) -> None:
    """Raise `ModelError` unless `outputs` are float (N,K), of `count` images where it is given."""
    right = isinstance(outputs, Tensor) and outputs.dim() == 2 and outputs.is_floating_point()
    if right and count in (None, len(outputs)):
        return
    said = type(outputs).__name__
    if isinstance(outputs, Tensor):
        said = f"{str(outputs.dtype).removeprefix('torch.')} {tuple(outputs.shape)}"
    rows = "N" if count is None else count
    raise ModelError(
        f"{_name(model)}: must give float logits ({rows},K) of {rows} images, not {said}"
    )


def check_predictions(logits: Tensor, model: nn.Module, images: ImageSet) -> None:
    """Raise unless `logits` (N,K) can be compared with the labels of `images`.

    `ModelError` where some are NaN, `DataError` where a label has no logit.
    """
    if lost := int(logits.isnan().any(dim=1).sum()):
        raise ModelError(f"{_name(model)}: NaN among the logits of {lost} of {len(logits)} images")
    _check_labels(logits, model, images)


def check_model(model: nn.Module, images: ImageSet) -> None:
    """Ask `model` about the first image; raise where it gives no logits or too few for the labels.

    `ModelError` and `DataError`, as `predict` and `check_predictions` raise them; NaN passes.
    """
    _check_labels(predict(model, images.images[:1], batch_size=1), model, images)


def _check_labels(logits: Tensor, model: nn.Module, images: ImageSet) -> None:
    if isinstance(model, Classifier) and model.classes:
        _check_names(model, images)
    last = int(images.labels.max())
    if last >= logits.shape[1]:
        raise DataError(
            f"labels reach {last}, but {_name(model)} gives {logits.shape[1]} logits: labels must "
            f"be in [0, {logits.shape[1] - 1}]"
        )


def _check_names(model: Classifier, images: ImageSet) -> None:
    """Raise where both have names and labels would count other classes than logits do."""
    if model.classes == images.classes or len(model.classes) != images.num_classes:
        return
    if matched(model, images.classes, _name(model), "the images").order is not model.order:
        raise ModelError(
            f"{_name(model)}: has the images' classes in another order: use "
            "models.matched(model, images.classes)"
        )


def _name(model: nn.Module) -> str:
    return type(model).__name__
