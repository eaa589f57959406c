"""Steps with channels last in units of the same steps with the usual layout, on this CPU."""

from __future__ import annotations

from collections.abc import Iterator

from experiments.benchmarks.steps import CLASSES, noise, stepper
from experiments.benchmarks.timing import Claim, medians
from robustkit import models
from robustkit.training import TrainConfig

SIZE, BATCH = 32, 64
# Nets like those a search tries, and one with shortcuts, batch norm and nineteen layers.
NETS = {"small": 15, "vgg3": 15, "resnet20": 9}


def claims() -> Iterator[Claim]:
    """Plain and penalised steps at 3x32x32, both layouts in turns: figures, not promises."""
    batch = noise(BATCH, SIZE)
    for name, rounds in NETS.items():
        net = models.build(name, num_classes=CLASSES, in_channels=3, image_size=SIZE, seed=0)
        steps = [
            stepper(net, TrainConfig(lam=lam, channels_last=last))
            for lam in (0.0, 1.0)
            for last in (False, True)
        ]
        works = [lambda step=step: step(batch) for step in steps]
        plain, plain_last, penalised, penalised_last = medians(*works, rounds=rounds)
        for kind, usual, last in (
            ("plain", plain, plain_last),
            ("penalised", penalised, penalised_last),
        ):
            yield Claim(
                f"{kind} step of {name}, channels last in usual layout",
                last / usual,
                None,
                at_most=True,
                detail=f"{1e3 * last:.1f} and {1e3 * usual:.1f} ms, batch {BATCH}",
            )
