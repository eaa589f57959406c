"""An executor whose jobs end in an order that a test chooses."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any, Self

from robustkit.jobs import Outcome
from robustkit.jobs.executors import J, attempt


class Shuffled:
    """Keeps up to `workers` jobs running and lets a random one of them end next."""

    def __init__(
        self, seed: int, workers: int = 3, outcome: Callable[[Any], Outcome] = attempt
    ) -> None:
        self._random, self._workers, self._outcome = random.Random(seed), workers, outcome
        self.started: list[Any] = []

    def run(self, jobs: Iterator[J | None]) -> Iterator[tuple[J, Outcome]]:
        running: list[J] = []
        while True:
            while len(running) < self._workers:
                job = next(jobs, None)
                if job is None:
                    break
                self.started.append(job)
                running.append(job)
            if not running:
                return
            job = running.pop(self._random.randrange(len(running)))
            yield job, self._outcome(job)

    def share(self, name: str, make: Callable[[], Any]) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """There is nothing to close."""
