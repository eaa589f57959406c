"""Reference gradients: how fast they are computed, how large they are, and where they lie."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from experiments.benchmarks.gpu.figure import Figure, per_second
from experiments.benchmarks.gpu.setting import Setting
from experiments.benchmarks.steps import CLASSES
from experiments.benchmarks.timing import timings
from robustkit import models, training
from robustkit.compute import free_memory
from robustkit.compute.placement import SHARE


def figures(setting: Setting, device: torch.device) -> Iterator[Figure]:
    """Gradients of the last net as the reference, stored in float16, in images a second."""
    name = setting.nets[-1]
    net = models.build(name, num_classes=CLASSES, in_channels=3, image_size=setting.side, seed=1)
    net.to(device).eval()
    views = torch.randint(256, (1, setting.images, 3, setting.side, setting.side)).to(torch.uint8)
    labels = torch.arange(setting.images) % CLASSES
    (seconds,) = timings(
        lambda: training.compute_reference(net, views, labels), rounds=3, device=device
    )
    yield per_second(f"{name}: reference gradients", "images", setting.images, seconds)


def placement(setting: Setting, device: torch.device) -> dict[str, Any]:
    """Bytes of one view's images and gradients, the device's room for them, and where they go."""
    shape = (1, setting.stored, 3, setting.side, setting.side)
    reference = training.ReferenceGradients(
        torch.zeros(shape, dtype=torch.float16), torch.ones(shape[:2])
    )
    views = torch.zeros(shape, dtype=torch.uint8)
    examples = training.Examples(views, torch.zeros(setting.stored).long(), (reference,))
    free = free_memory(device)
    moved = examples.to(device)
    return {
        "images": setting.stored,
        "image_bytes": views.nbytes,
        "gradient_bytes": reference.directions.nbytes,
        "free_bytes": free,
        "share": SHARE,
        "images_on_device": moved.views.device.type == device.type,
        "gradients_on_device": moved.references[0].directions.device.type == device.type,
    }
