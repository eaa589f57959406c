"""Steps with channels last in units of the same steps with the usual layout, on this CPU."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from experiments.benchmarks.record import Record, cost
from experiments.benchmarks.timing import CLASSES, noise, stepper, timed
from robustkit import models
from robustkit.training import TrainConfig

SIZE, BATCH = 32, 64
# Nets like those a search tries, and one with shortcuts, batch norm and nineteen layers.
NETS = {"small": 15, "vgg3": 15, "resnet20": 9}


def records() -> Iterator[Record]:
    """Plain and penalised steps at 3x32x32, both layouts in turns: figures, not promises."""
    batch = noise(BATCH, SIZE)
    for name, rounds in NETS.items():
        net = models.build(name, num_classes=CLASSES, in_channels=3, image_size=SIZE, seed=0)
        works = {}
        for kind, lam in (("plain", 0.0), ("penalised", 1.0)):
            for layout in ("usual layout", "channels last"):
                step = stepper(net, TrainConfig(lam=lam, channels_last=layout == "channels last"))
                works[f"{kind}, {layout}"] = partial(step, batch)
        plain, plain_last, penalised, penalised_last = timed(works, rounds=rounds)
        yield cost(f"{name}: plain step, batch {BATCH}", plain_last, plain)
        yield cost(f"{name}: penalised step, batch {BATCH}", penalised_last, penalised)
