"""Plain and penalised training steps, in float32 and bfloat16, in both layouts."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from experiments.benchmarks.gpu.setting import Setting
from experiments.benchmarks.record import Record, alone, cost
from experiments.benchmarks.timing import CLASSES, noise, stepper, timed
from robustkit import models
from robustkit.training import TrainConfig

PLAIN = "plain step"
KINDS = {
    PLAIN: TrainConfig(),
    "plain step, bf16 and channels last": TrainConfig(bf16=True, channels_last=True),
    "penalised step": TrainConfig(lam=1.0),
    "penalised step, bf16": TrainConfig(lam=1.0, bf16=True),
    "penalised step, channels last": TrainConfig(lam=1.0, channels_last=True),
    "penalised step, bf16 and channels last": TrainConfig(lam=1.0, bf16=True, channels_last=True),
}


def records(setting: Setting, device: torch.device) -> Iterator[Record]:
    """A step of each net, in turns, beside the plain step."""
    batch = noise(setting.batch, setting.side, device)
    for name in setting.nets:
        net = models.build(
            name, num_classes=CLASSES, in_channels=3, image_size=setting.side, seed=0
        ).to(device)
        works = {kind: partial(stepper(net, config), batch) for kind, config in KINDS.items()}
        plain, *others = timed(
            works, rounds=setting.rounds, device=device, warm_ups=setting.warm_ups
        )
        yield alone(f"{name}: {plain.name}", plain)
        for each in others:
            yield cost(f"{name}: {each.name}", each, plain)
