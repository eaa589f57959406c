"""Batch norm's statistics of another domain (AdaBN, Li et al. 2016)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from adaptation.detectors import Detector
from robustkit.compute import device_of
from robustkit.data import ImageSet, to_unit
from robustkit.data.detection import DetectionSet
from robustkit.errors import ModelError
from robustkit.models import Classifier

BATCH = 32
MOST = 1000  # images are more than enough for means and variances


def batch_norms(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Return the model's batch norms; raises `ModelError` where there are none to adapt."""
    norms = [
        module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)
    ]
    if not norms:
        raise ModelError(
            "adabn adapts batch norm, and this detector has none; a tiny one has with ?norm=batch"
        )
    return norms


def adapt_statistics(model: Detector, images: DetectionSet) -> None:
    """Replace a detector's batch norm statistics by those of the unlabelled `images`.

    Raises `ModelError` for a model without batch norm, which has nothing to adapt.
    """
    # Norms of the heads see boxes rather than images: they keep what they know.
    model.eval()
    with _plain_means(model.net.get_submodule("backbone")):
        for rows in _batches(len(images)):
            model.features([to_unit(images.image(row)).to(device_of(model)) for row in rows])


def adapt_classifier(model: Classifier, images: ImageSet) -> None:
    """Replace a classifier's batch norm statistics by those of `images`, in place."""
    model.eval()
    with _plain_means(model):
        for rows in _batches(len(images)):
            model(images.floats(torch.tensor(rows)).to(device_of(model)))


@contextmanager
def _plain_means(model: nn.Module) -> Iterator[None]:
    """Reset the batch norms, and let them take plain means over all batches inside the context."""
    norms = batch_norms(model)
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    try:
        with torch.no_grad():
            yield
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.eval()


def _batches(count: int) -> Iterator[list[int]]:
    """Yield rows by the batch, spread over all: a file may have them in some order.

    A last, smaller batch, which would count as much, is left out.
    """
    used = min(count, MOST)
    rows = [number * count // used for number in range(used)]
    for start in range(0, used - used % BATCH or used, BATCH):
        yield rows[start : start + BATCH]
