"""What a person sees while an evolution runs."""

from __future__ import annotations

import time
from collections import Counter
from types import TracebackType
from typing import Self

from robustkit.runs import RunFolder, Trial

EVERY = 5.0  # seconds between two lines


class Live:
    """Prints how far the run is: generation, best accuracy, lowest transfer, outcomes, time left.

    The time left is the mean seconds per trial so far times the trials that remain, so it is
    known once the first trials are in; finalists are announced one by one.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._total = 2 * folder.config["population"] * folder.config["generations"]
        self._start = self._last = time.monotonic()
        self._outcomes: Counter[str] = Counter()
        self._seen = self._fresh = 0
        self._best = (0.0, 1.0)
        self._generation = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def on_trial(self, trial: Trial) -> None:
        """Take note of a finished trial."""
        if trial.arm not in ("evolve", "random"):
            print(f"{trial.id}: {trial.outcome} ({trial.seconds:.1f} s)", flush=True)
            return
        self._seen += 1
        self._fresh += trial.seconds > 0
        self._outcomes[trial.outcome] += 1
        if trial.result:
            accuracy, transfer = self._best
            self._best = (
                max(accuracy, trial.result["accuracy"]),
                min(transfer, trial.result["transfer"]),
            )
        if trial.arm == "evolve":
            self._generation = max(self._generation, int(trial.payload["generation"]))
        if time.monotonic() - self._last >= EVERY or self._seen == self._total:
            self._last = time.monotonic()
            print(self._line(), flush=True)

    def _line(self) -> str:
        elapsed = time.monotonic() - self._start
        left = elapsed / max(self._seen, 1) * (self._total - self._seen)
        outcomes = ", ".join(f"{count} {kind}" for kind, count in sorted(self._outcomes.items()))
        return (
            f"generation {self._generation + 1}  trials {self._seen}/{self._total} ({outcomes})  "
            f"best accuracy {self._best[0]:.3f}  lowest transfer {self._best[1]:.3f}  "
            f"about {left:.0f} s of search left"
        )
