"""Times of several works, measured in turns so that a machine's moods strike all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch

from experiments.benchmarks.figure import Figure
from robustkit.compute import synchronize

CPU = torch.device("cpu")


def timed(
    works: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 9,
    device: torch.device = CPU,
    warm_ups: int = 1,
) -> list[Figure]:
    """Seconds of each of `works`, by their names and in their order.

    They are run in turns, `rounds` times after the `warm_ups`, and waited for on the `device`.
    """
    seconds = timings(*works.values(), rounds=rounds, device=device, warm_ups=warm_ups)
    return [Figure(name, "s", tuple(own)) for name, own in zip(works, seconds, strict=True)]


def timings(
    *works: Callable[[], object], rounds: int, device: torch.device = CPU, warm_ups: int = 1
) -> list[list[float]]:
    """Seconds of each of `works` in each of `rounds`, run in turns, with the device's own time."""
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
