"""Plain and penalised training steps, in float32 and bfloat16, in both layouts."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from experiments.benchmarks.gpu.figure import Figure
from experiments.benchmarks.gpu.setting import Setting
from experiments.benchmarks.steps import CLASSES, noise, stepper
from experiments.benchmarks.timing import timings
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


def figures(setting: Setting, device: torch.device) -> Iterator[Figure]:
    """Seconds of a step of each net, in turns, with its ratio to the plain step."""
    batch = noise(setting.batch, setting.side, device)
    for name in setting.nets:
        net = models.build(
            name, num_classes=CLASSES, in_channels=3, image_size=setting.side, seed=0
        ).to(device)
        works = [partial(stepper(net, config), batch) for config in KINDS.values()]
        seconds = timings(*works, rounds=setting.rounds, device=device, warm_ups=setting.warm_ups)
        found = [
            Figure(f"{name}: {kind}", "s", tuple(values))
            for kind, values in zip(KINDS, seconds, strict=True)
        ]
        yield found[0]
        yield from (each.over(found[0]) for each in found[1:])
