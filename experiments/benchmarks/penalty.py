"""The penalised step in units of the plain step, with cached and with live reference gradients."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from experiments.benchmarks.timing import Claim, medians
from robustkit import models
from robustkit.attacks import loss_gradient
from robustkit.training import TrainConfig
from robustkit.training.examples import Batch
from robustkit.training.references import unit_rows
from robustkit.training.step import step_loss

SIZE, BATCH = 32, 64


def claims() -> Iterator[Claim]:
    """A 3-conv net without batch norm at 3x32x32; the live reference is a ResNet-18."""
    net = models.build("small", num_classes=10, in_channels=3, image_size=SIZE, seed=0)
    reference = models.build("resnet18", num_classes=10, in_channels=3, image_size=SIZE, seed=1)
    reference.eval()
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(BATCH, 3, SIZE, SIZE, generator=generator)
    labels = torch.randint(10, (BATCH,), generator=generator)
    directions, _ = unit_rows(torch.randn(images.shape, generator=generator))
    usable = torch.ones(1, BATCH, dtype=torch.bool)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    def step(directions: torch.Tensor, lam: float) -> None:
        batch = Batch(images.clone(), labels, directions[None].half(), usable)
        optimizer.zero_grad(set_to_none=True)
        loss = step_loss(net, batch, TrainConfig(lam=lam), None, generator).total
        torch.autograd.backward(loss, inputs=list(net.parameters()))
        optimizer.step()

    def live() -> None:
        step(unit_rows(loss_gradient(reference, images, labels)[0])[0], 1.0)

    plain, cached = medians(lambda: step(directions, 0.0), lambda: step(directions, 1.0), rounds=25)
    yield Claim(
        "penalised step, cached gradients, in plain steps",
        cached / plain,
        3.3,
        at_most=True,
        detail=f"plain {1e3 * plain:.1f} ms, penalised {1e3 * cached:.1f} ms, batch {BATCH}",
    )
    cached, slow = medians(lambda: step(directions, 1.0), live, rounds=5)
    yield Claim(
        "penalised step, cached against a live ResNet-18",
        slow / cached,
        8.0,
        at_most=False,
        detail=f"live {1e3 * slow:.0f} ms",
    )
