"""Workers without a clock: jobs end in the order of what they cost, whatever the machine does."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Any, Self

from robustkit import models
from robustkit.jobs import Outcome
from robustkit.models.card import Card


class SimulatedWorkers:
    """Runs `workers` jobs at a time; one of twice the `cost` takes twice as long.

    `outcome` carries a job out, here and now: only the order of the endings is simulated. `now` is
    the simulated time, in units of cost.
    """

    def __init__(
        self,
        workers: int,
        cost: Callable[[Any], float],
        outcome: Callable[[Any], Outcome],
    ) -> None:
        self._workers, self._cost, self._outcome = workers, cost, outcome
        self.now = 0.0

    def run(self, jobs: Iterator[Any]) -> Iterator[tuple[Any, Outcome]]:
        """Run jobs in simulated time: see `Executor.run`."""
        count = 0
        running: list[tuple[float, int, Any]] = []
        while True:
            while len(running) < self._workers and (job := next(jobs, None)) is not None:
                heapq.heappush(running, (self.now + self._cost(job), count, job))
                count += 1
            if not running:
                return
            self.now, _, job = heapq.heappop(running)
            yield job, self._outcome(job)

    def share(self, name: str, make: Callable[[], Any]) -> None:
        """Do nothing: jobs run in this process."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Do nothing: there is nothing to close."""


def macs_of(job: Any, shape: tuple[int, int, int], classes: int) -> int:
    """Return multiply-accumulates per image (C,H,W) of the net that a job trains."""
    channels = shape[0]
    card = Card.trained_on(
        architecture=job.architecture,
        classes=tuple(str(number) for number in range(classes)),
        input_shape=shape,
        mean=(0.5,) * channels,
        std=(0.5,) * channels,
    )
    return models.cost(models.rebuild(card, seed=0), shape).macs
