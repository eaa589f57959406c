"""The penalised step in units of the plain step, with cached and with live reference gradients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from experiments.benchmarks.steps import CLASSES, noise, stepper
from experiments.benchmarks.timing import Claim, medians
from robustkit import models
from robustkit.attacks import loss_gradient
from robustkit.training import TrainConfig
from robustkit.training.references import unit_rows

SIZE, BATCH = 32, 64


def claims() -> Iterator[Claim]:
    """A 3-conv net without batch norm at 3x32x32; the live reference is a ResNet-18."""
    net, reference = (
        models.build(name, num_classes=CLASSES, in_channels=3, image_size=SIZE, seed=seed)
        for seed, name in enumerate(("small", "resnet18"))
    )
    reference.eval()
    batch = noise(BATCH, SIZE)
    plain_step = stepper(net, TrainConfig(lam=0.0))
    penalised_step = stepper(net, TrainConfig(lam=1.0))

    def live() -> None:
        gradient, _ = loss_gradient(reference, batch.images, batch.labels)
        penalised_step(replace(batch, directions=unit_rows(gradient)[0][None].half()))

    plain, cached = medians(lambda: plain_step(batch), lambda: penalised_step(batch), rounds=25)
    yield Claim(
        "penalised step, cached gradients, in plain steps",
        cached / plain,
        3.3,
        at_most=True,
        detail=f"plain {1e3 * plain:.1f} ms, penalised {1e3 * cached:.1f} ms, batch {BATCH}",
    )
    cached, slow = medians(lambda: penalised_step(batch), live, rounds=5)
    yield Claim(
        "penalised step, cached against a live ResNet-18",
        slow / cached,
        8.0,
        at_most=False,
        detail=f"live {1e3 * slow:.0f} ms",
    )
