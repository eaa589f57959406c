"""Steps of training on one batch of noise: what they cost does not depend on what is learnt."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from experiments.benchmarks.timing import CPU
from robustkit.training import TrainConfig
from robustkit.training.examples import Batch
from robustkit.training.references import unit_rows
from robustkit.training.step import step_loss

CLASSES = 10


def noise(count: int, size: int, device: torch.device = CPU) -> Batch:
    """A batch of `count` images 3×`size`×`size` of noise, with one reference's directions."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, 3, size, size, generator=generator)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    directions, _ = unit_rows(torch.randn(images.shape, generator=generator))
    usable = torch.ones(1, count, dtype=torch.bool)
    return Batch(
        images.to(device), labels.to(device), directions[None].half().to(device), usable.to(device)
    )


def stepper(net: nn.Module, config: TrainConfig) -> Callable[[Batch], None]:
    """A step of a copy of `net` as `config` has it, on whatever batch it is given."""
    own = copy.deepcopy(net).train()
    if config.channels_last:
        own = own.to(memory_format=torch.channels_last)
    parameters = list(own.parameters())
    optimizer = torch.optim.SGD(parameters, lr=0.01, momentum=0.9)
    generator = torch.Generator().manual_seed(0)

    def step(batch: Batch) -> None:
        # A copy, as every batch is a fresh one: the penalty asks for its images' gradients.
        fresh = replace(batch, images=batch.images.clone())
        optimizer.zero_grad(set_to_none=True)
        loss = step_loss(own, fresh, config, None, generator).total
        torch.autograd.backward(loss, inputs=parameters)
        optimizer.step()

    return step
