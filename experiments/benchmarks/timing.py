"""Times of several workloads, interleaved, so that machine noise affects all equally."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from typing import TypeVar

import psutil
import torch
from torch import nn

from experiments.benchmarks.record import Value
from robustkit.compute import synchronize
from robustkit.training import TrainConfig
from robustkit.training.examples import Batch
from robustkit.training.references import unit_rows
from robustkit.training.step import step_loss

CPU = torch.device("cpu")


def timed(
    works: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 9,
    device: torch.device = CPU,
    warm_ups: int = 1,
) -> list[Value]:
    """Return seconds of each of `works`, by their names and in their order.

    They are run in turns, `rounds` times after the `warm_ups`, and waited for on the `device`.
    """
    seconds = timings(*works.values(), rounds=rounds, device=device, warm_ups=warm_ups)
    return [Value(name, "s", tuple(own)) for name, own in zip(works, seconds, strict=True)]


def timings(
    *works: Callable[[], object], rounds: int, device: torch.device = CPU, warm_ups: int = 1
) -> list[list[float]]:
    """Return the seconds of each of `works` in each of `rounds`, interleaved."""
    for _ in range(warm_ups):
        for work in works:
            work()
    seconds: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for place, work in enumerate(works):
            synchronize(device)
            start = time.perf_counter()
            work()
            synchronize(device)
            seconds[place].append(time.perf_counter() - start)
    return seconds


Result = TypeVar("Result")


def in_fresh_process(work: Callable[[], Result]) -> Result:
    """Return the result of `work`, a module's function, run in a process of its own on one thread.

    Suites keep the memory that they have freed: what came after them would seem to take none.
    """
    with ProcessPoolExecutor(
        1, mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as fresh:
        return fresh.submit(work).result()


def resident() -> int:
    """Return the bytes that this process holds in memory now."""
    return int(psutil.Process(os.getpid()).memory_info().rss)


CLASSES = 10


def noise(count: int, size: int, device: torch.device = CPU) -> Batch:
    """Return a batch of `count` images 3×`size`×`size` of noise, with one reference's
    directions.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, 3, size, size, generator=generator)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    directions, _ = unit_rows(torch.randn(images.shape, generator=generator))
    usable = torch.ones(1, count, dtype=torch.bool)
    return Batch(
        images.to(device), labels.to(device), directions[None].half().to(device), usable.to(device)
    )


def stepper(net: nn.Module, config: TrainConfig) -> Callable[[Batch], None]:
    """Return a step of a copy of `net` as `config` has it, on whatever batch it is given."""
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
