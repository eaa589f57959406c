"""Reference gradients: how fast they are computed, how large they are, and where they lie."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from experiments.benchmarks.gpu.setting import Setting
from experiments.benchmarks.record import Figure, Record, cost, per_second
from experiments.benchmarks.timing import CLASSES, timings
from robustkit import models, training
from robustkit.compute import free_memory
from robustkit.compute.devices import SHARE


def records(setting: Setting, device: torch.device) -> Iterator[Record]:
    """Gradients of the last net as the reference, stored in float16; then where they go."""
    name = setting.nets[-1]
    net = models.build(name, num_classes=CLASSES, in_channels=3, image_size=setting.side, seed=1)
    net.to(device).eval()
    views = torch.randint(256, (1, setting.images, 3, setting.side, setting.side)).to(torch.uint8)
    labels = torch.arange(setting.images) % CLASSES
    (seconds,) = timings(
        lambda: training.compute_reference(net, views, labels), rounds=3, device=device
    )
    made = per_second("computed", "images", setting.images, seconds)
    yield Record(what=f"{name}: reference gradients", ours=made, higher=True)
    yield _placement(setting, device)


def _placement(setting: Setting, device: torch.device) -> Record:
    """Bytes of one view's gradients beside those of its images, and on which side they are kept."""
    shape = (1, setting.stored, 3, setting.side, setting.side)
    reference = training.ReferenceGradients(
        torch.zeros(shape, dtype=torch.float16), torch.ones(shape[:2])
    )
    views = torch.zeros(shape, dtype=torch.uint8)
    examples = training.Examples(views, torch.zeros(setting.stored).long(), (reference,))
    free = free_memory(device)
    moved = examples.to(device)
    sides = {
        "images": moved.views.device.type == device.type,
        "gradients": moved.references[0].directions.device.type == device.type,
    }
    kept = ", ".join(
        f"{what} on the device" if there else f"{what} with the host"
        for what, there in sides.items()
    )
    return cost(
        f"reference gradients of {setting.stored:,} images: memory",
        Figure("gradients", "bytes", (float(reference.directions.nbytes),)),
        Figure("images", "bytes", (float(views.nbytes),)),
        note=f"{kept}; free there: {free:,} bytes, of which 1/{1 / SHARE:g} may be taken",
    )
