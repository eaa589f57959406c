"""Workers without a clock: trials end in the order of how much they have to compute."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Iterator
from typing import Any, Self

from robustkit import models
from robustkit.compute import Ok, Outcome
from robustkit.models.card import Card

NOISE = ("accuracy", "transfer", "cos_abs", "grad_norm")


class SimulatedWorkers:
    """Runs `workers` trials at a time; a net of twice the operations takes twice as long.

    What trials report is noise that depends on their seed alone, and not on the net: whatever a
    search prefers in nets, it has from when trials end. `macs` are of the trials in the order of
    their endings.
    """

    def __init__(self, workers: int, shape: tuple[int, int, int], classes: int) -> None:
        self._workers, self._shape, self._classes = workers, shape, classes
        self.macs: list[tuple[int, int]] = []

    def run(self, jobs: Iterator[Any]) -> Iterator[tuple[Any, Outcome]]:
        """See `Executor.run`."""
        now, count = 0.0, 0
        running: list[tuple[float, int, Any, int]] = []
        while True:
            while len(running) < self._workers and (job := next(jobs, None)) is not None:
                macs = self._cost(job)
                heapq.heappush(running, (now + macs, count, job, macs))
                count += 1
            if not running:
                return
            now, _, job, macs = heapq.heappop(running)
            self.macs.append((job.seed, macs))
            rng = random.Random(job.seed)
            yield job, Ok({name: rng.random() for name in NOISE} | {"macs": macs, "params": 1})

    def share(self, name: str, make: Callable[[], Any]) -> None:
        """Nothing is needed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """There is nothing to close."""

    def _cost(self, job: Any) -> int:
        channels = self._shape[0]
        card = Card(
            architecture=job.architecture,
            classes=tuple(str(number) for number in range(self._classes)),
            input_shape=self._shape,
            mean=(0.5,) * channels,
            std=(0.5,) * channels,
        )
        return models.cost(models.rebuild(card, seed=0), self._shape).macs


def geometric_mean(values: list[int]) -> float:
    """exp of the mean logarithm."""
    return math.exp(sum(map(math.log, values)) / len(values))
