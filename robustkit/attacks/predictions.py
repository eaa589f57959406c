"""Logits and predicted classes of a model on many images: computed, checked and cached."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from robustkit import models
from robustkit.attacks.cache import Origin, Store, key
from robustkit.attacks.ensemble import Ensemble
from robustkit.compute import (
    Note,
    fitting_batches,
    isolated_rng,
    on_device,
    single_thread,
    torch_generator,
)
from robustkit.compute.batching import warn
from robustkit.compute.tensorfiles import checksum
from robustkit.data import ImageSet, to_unit
from robustkit.errors import DataError, ModelError
from robustkit.models import Classifier, matched
from robustkit.models.card import WRAPPED
from robustkit.models.state import state_preserved

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
    """Return the logits (N,K), on the CPU, of `images` (N,C,H,W), uint8 or float in [0,1].

    The model computes in evaluation mode and in batches of `batch_size`, by default 500 or as many
    as fit, so that N may exceed memory; its state is preserved. It is moved to `device` meanwhile;
    a batch that does not fit there is halved, and `on_note` is called with a line about it. Raises
    `ModelError` for a model that gives no (N,K) logits, `DeviceError` where not even one image
    fits.
    """
    with on_device(model, device) as target, state_preserved(model):
        batches = fitting_batches(
            model,
            tuple(images.shape[1:]),
            chosen=batch_size,
            most=BATCH,
            backward=False,
            on_note=on_note,
        )

        def logits_of(rows: slice) -> Tensor:
            batch = images[rows]
            # Copied: the images may lie on a file, and a model may write into what it is given.
            batch = (
                to_unit(batch.to(target))
                if batch.dtype == torch.uint8
                else batch.to(target, copy=True)
            )
            logits: Tensor = model(batch)
            check_logits(logits, model, len(batch))
            return logits.float().cpu()

        return torch.cat([logits for _, logits in batches.over(len(images), logits_of)])


def predicted_classes(
    model: nn.Module,
    images: Tensor,
    *,
    batch_size: int | None = None,
    device: torch.device | None = None,
    on_note: Note = warn,
) -> Tensor:
    """Return the predicted classes int64 (N,); arguments and errors are those of `predict`."""
    logits = predict(model, images, batch_size=batch_size, device=device, on_note=on_note)
    return logits.argmax(dim=1)


def correct(model: nn.Module, images: ImageSet) -> Tensor:
    """Return bool (N,): which of `images` the model classifies correctly.

    Raises the errors of `predict`; whether labels and logits fit is for `check_predictions`.
    """
    return predicted_classes(model, images.images) == images.labels


def check_logits(outputs: Any, model: nn.Module, count: int | None = None) -> None:
    """Raise `ModelError` unless `outputs` are float (N,K), of `count` images where it is given."""
    right = isinstance(outputs, Tensor) and outputs.dim() == 2 and outputs.is_floating_point()
    if right and count in (None, len(outputs)):
        return
    described = type(outputs).__name__
    if isinstance(outputs, Tensor):
        described = f"{str(outputs.dtype).removeprefix('torch.')} {tuple(outputs.shape)}"
    rows = "N" if count is None else count
    raise ModelError(
        f"{_name(model)}: must give float logits ({rows},K) of {rows} images, not {described}"
    )


def check_predictions(logits: Tensor, model: nn.Module, images: ImageSet) -> None:
    """Raise unless `logits` (N,K) can be compared with the labels of `images`.

    `ModelError` where some are NaN, `DataError` where a label has no logit.
    """
    if lost := int(logits.isnan().any(dim=1).sum()):
        raise ModelError(f"{_name(model)}: NaN among the logits of {lost} of {len(logits)} images")
    _check_labels(logits, model, images)


def check_model(model: nn.Module, images: ImageSet) -> None:
    """Predict the first image; raise where `model` gives no logits or too few for the labels.

    Raises `ModelError` and `DataError` as `predict` and `check_predictions` do; NaN passes.
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


class PredictionCache:
    """The classes that one net predicts for sets of images, each computed once; kept in `store`.

    `digest` identifies the net. All sets have as many images as `images`, with its labels.
    """

    def __init__(
        self,
        net: nn.Module,
        images: ImageSet,
        store: Store,
        *,
        batch_size: int | None = None,
        on_note: Note | None = None,
    ) -> None:
        self.digest = source_digest(net, images.shape)
        self._net = net
        self._images = images
        self._store = store
        self._batch_size = batch_size
        self._on_note = on_note or store.notes.append

    def clean(self) -> Tensor:
        """Return the classes int64 (N,) that the net predicts for the clean images."""
        return self.classes({"data": self._images.digest()}, lambda: self._images.images)

    def classes(self, origin: Origin, load: Callable[[], Tensor]) -> Tensor:
        """Return the classes int64 (N,) that the net predicts for the images that `origin` names.

        `load` returns them, uint8 or float in [0,1] (N,C,H,W), and is called only where the
        predictions are not in the store. Raises `ModelError` for a net that gives no logits or
        NaN, `DataError` where a label has no logit.
        """
        about = {"net": self.digest, "images": origin}
        predicted = self._store.fetch("answers", about, lambda: self._predict(load()), self._fault)
        return predicted["classes"]

    def _fault(self, predicted: dict[str, Tensor]) -> str | None:
        classes, count = predicted.get("classes"), len(self._images)
        if classes is None or classes.dtype != torch.int64 or classes.shape != (count,):
            return f"not a class for each of {count:,} images"
        return "a negative class" if bool((classes < 0).any()) else None

    def _predict(self, images: Tensor) -> dict[str, Tensor]:
        logits = predict(self._net, images, batch_size=self._batch_size, on_note=self._on_note)
        check_predictions(logits, self._net, self._images)
        return {"classes": logits.argmax(1)}


def source_digest(net: nn.Module, shape: tuple[int, ...]) -> str:
    """Return a digest of what a net computes on images of `shape` (C,H,W).

    A classifier's is that of its model file; an ensemble's that of its members and how they are
    fused. Code may change while weights stay, so the logits of a fixed probe are part of the digest
    of a user's own module, wrapped or made by a factory.
    """
    if isinstance(net, Ensemble):
        return key(
            {"members": [source_digest(member, shape) for member in net.members], "fuse": net.fuse}
        )
    if not isinstance(net, models.Classifier):
        kinds = [[name, type(module).__qualname__] for name, module in net.named_modules()]
        weights = checksum(
            {name: item for name, item in net.state_dict().items() if isinstance(item, Tensor)}
        )
        return key({"modules": kinds, "weights": weights, "says": _probe_digest(net, shape)})
    if net.card.architecture.get("family") not in ("factory", WRAPPED):
        return models.digest(net)
    return key({"weights": models.digest(net), "says": _probe_digest(net, shape)})


def _probe_digest(net: nn.Module, shape: tuple[int, ...]) -> str:
    """Return the checksum of the logits of four random images.

    Computed on one thread, so that it is the same everywhere, and with random states of its own for
    a net that draws.
    """
    images = torch.rand((4, *shape), generator=torch_generator("probe of a factory's network"))
    with isolated_rng(0), single_thread():
        return checksum({"": predict(net, images, batch_size=4)})
