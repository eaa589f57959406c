"""Which classes nets see in images, computed once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from robustkit import models
from robustkit.attacks.ensemble import Ensemble
from robustkit.attacks.predict import check_predictions, predict
from robustkit.attacks.store import Store, checksum, key
from robustkit.compute import Note, isolated_rng, single_thread, torch_generator
from robustkit.data import ImageSet
from robustkit.models.card import WRAPPED


class Answers:
    """The classes that one net sees in sets of images, each asked once; kept in `store`.

    `digest` tells the net from others. All sets have as many images as `images`, with its labels.
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
        """The classes int64 (N,) that the net sees in the clean images."""
        return self.seen({"data": self._images.digest()}, lambda: self._images.images)

    def seen(self, origin: Mapping[str, Any], pictures: Callable[[], Tensor]) -> Tensor:
        """The classes int64 (N,) that the net sees in the pictures that `origin` names.

        `pictures` gives them, uint8 or float in [0,1] (N,C,H,W), and is called only where the
        answers are not in the store. Raises `ModelError` for a net that gives no logits or NaN,
        `DataError` where a label has no logit.
        """
        asked = {"net": self.digest, "images": origin}
        kept = self._store.fetch("answers", asked, lambda: self._ask(pictures()), self._fault)
        return kept["classes"]

    def _fault(self, kept: dict[str, Tensor]) -> str | None:
        found, count = kept.get("classes"), len(self._images)
        if found is None or found.dtype != torch.int64 or found.shape != (count,):
            return f"not a class for each of {count:,} images"
        return "a negative class" if bool((found < 0).any()) else None

    def _ask(self, pictures: Tensor) -> dict[str, Tensor]:
        logits = predict(self._net, pictures, batch_size=self._batch_size, on_note=self._on_note)
        check_predictions(logits, self._net, self._images)
        return {"classes": logits.argmax(1)}


def source_digest(net: nn.Module, shape: tuple[int, ...]) -> str:
    """The digest of any net that takes images of `shape` (C,H,W): of what it computes.

    A classifier's is that of its model file; an ensemble's that of its members and how they are
    fused. Code may change while weights stay, so what a user's own module, wrapped or a factory's,
    answers to a fixed probe is part of its digest.
    """
    if isinstance(net, Ensemble):
        return key(
            {"members": [source_digest(each, shape) for each in net.members], "fuse": net.fuse}
        )
    if not isinstance(net, models.Classifier):
        kinds = [[name, type(each).__qualname__] for name, each in net.named_modules()]
        weights = checksum(
            {name: each for name, each in net.state_dict().items() if isinstance(each, Tensor)}
        )
        return key({"modules": kinds, "weights": weights, "says": _says(net, shape)})
    if net.card.architecture.get("family") not in ("factory", WRAPPED):
        return models.digest(net)
    return key({"weights": models.digest(net), "says": _says(net, shape)})


def _says(net: nn.Module, shape: tuple[int, ...]) -> str:
    """The checksum of the logits of four random images; on one thread, so that it is the same
    wherever it is computed, and with random states of its own for a net that draws."""
    probe = torch.rand((4, *shape), generator=torch_generator("probe of a factory's network"))
    with isolated_rng(0), single_thread():
        return checksum({"": predict(net, probe, batch_size=4)})
