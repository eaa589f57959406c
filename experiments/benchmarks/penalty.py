"""The penalised step in units of the plain step, with cached and with live reference gradients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from experiments.benchmarks.record import Record, cost, speedup
from experiments.benchmarks.timing import CLASSES, noise, stepper, timed
from robustkit import models
from robustkit.attacks import loss_gradient
from robustkit.training import TrainConfig
from robustkit.training.references import unit_rows

SIZE, BATCH = 32, 64


def records() -> Iterator[Record]:
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

    def cached() -> None:
        penalised_step(batch)

    works = {"penalised, cached gradients": cached, "plain": lambda: plain_step(batch)}
    penalised, plain = timed(works, rounds=25)
    yield cost(f"penalised step in plain steps, batch {BATCH}", penalised, plain, at_most=3.3)
    penalised, slow = timed({"cached gradients": cached, "live ResNet-18": live}, rounds=5)
    yield speedup(
        f"penalised step with the reference's gradients computed live, batch {BATCH}",
        penalised,
        slow,
        at_least=8.0,
    )
