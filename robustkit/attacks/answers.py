"""Which classes nets see in images, asked once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from robustkit import models
from robustkit.attacks.ensemble import Ensemble
from robustkit.attacks.predict import predict
from robustkit.attacks.store import Store, checksum, key
from robustkit.compute import torch_generator
from robustkit.data import ImageSet


def clean_answers(net: nn.Module, images: ImageSet, store: Store) -> Tensor:
    """The classes int64 (N,) that `net` sees in `images`; kept in `store`."""
    return answers(net, {"data": images.digest()}, lambda: images.images, store)


def answers(
    net: nn.Module, origin: Mapping[str, Any], pictures: Callable[[], Tensor], store: Store
) -> Tensor:
    """The classes int64 (N,) that `net` sees in the pictures that `origin` names.

    `pictures` gives them, uint8 or float in [0,1] (N,C,H,W), and is called only where the answers
    are not in `store`.
    """
    asked = {"net": source_digest(net), "images": origin}
    kept = store.fetch("answers", asked, lambda: {"classes": predict(net, pictures()).argmax(1)})
    return kept["classes"]


def source_digest(net: nn.Module) -> str:
    """The digest of a classifier, or of an ensemble's members and how they are fused."""
    if isinstance(net, Ensemble):
        members = [models.digest(each) for each in net.members]  # type: ignore[arg-type]
        return key({"members": members, "fuse": net.fuse})
    assert isinstance(net, models.Classifier)
    if net.card.architecture.get("family") != "factory":
        return models.digest(net)
    # A user's code may change while its weights stay: what it answers is part of what it is.
    shape = (4, *net.card.input_shape)
    probe = torch.rand(shape, generator=torch_generator("probe of a factory's network"))
    return key({"weights": models.digest(net), "says": checksum({"": predict(net, probe)})})
