"""Batch norm's statistics of another domain (Li, Wang, Shi, Liu and Hou 2016)."""

from __future__ import annotations

import torch
from torch import nn

from adaptation.detectors import Detector
from robustkit.compute import device_of
from robustkit.data import to_unit
from robustkit.data.detection import DetectionSet
from robustkit.errors import ModelError

BATCH = 32
MOST = 1000  # images are more than enough for means and variances


def batch_norms(model: Detector) -> list[nn.modules.batchnorm._BatchNorm]:
    """The model's batch norms; raises `ModelError` where there are none to adapt."""
    norms = [each for each in model.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        raise ModelError(
            "adabn adapts batch norm, and this detector has none; a tiny one has with ?norm=batch"
        )
    return norms


@torch.no_grad()
def adapt_statistics(model: Detector, images: DetectionSet) -> None:
    """Put the statistics of `images`, whose labels nobody looks at, into the model's batch norms.

    Raises `ModelError` for a model without batch norm, which has nothing to adapt.
    """
    norms = batch_norms(model)
    before = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
        norm.train()
    count = min(len(images), MOST)
    for start in range(0, count - count % BATCH or count, BATCH):
        rows = range(start, min(start + BATCH, count))
        model.features([to_unit(images.image(row)).to(device_of(model)) for row in rows])
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
    model.eval()
