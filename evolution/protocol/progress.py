"""The progress of an evolution, shown while it runs."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from typing import Self

from evolution.protocol.roles import id_of
from robustkit.runs import Entry, RunFolder
from robustkit.runs.progress import open_progress


class Live:
    """Shows the generation, best accuracy, lowest transfer, outcomes and time left of the search.

    The search and its random control count as one phase, because they are interleaved; other
    trainings and evaluations are noted line by line.
    """

    def __init__(self, folder: RunFolder) -> None:
        config = folder.config
        # Where a search has rungs its trials are of different lengths: it is counted in epochs.
        self._halved = config["halving"] is not None
        self._epochs = config["epochs"] if self._halved else 1
        self._total = 2 * config["population"] * config["generations"] * self._epochs
        self._spent = 0
        self._generations = folder.config["generations"]
        self._progress = open_progress()
        self._stack = ExitStack()
        self._outcomes: Counter[str] = Counter()
        self._accuracy, self._transfer, self._generation = 0.0, 1.0, 0

    def __enter__(self) -> Self:
        self._stack.enter_context(self._progress)
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def on_entry(self, entry: Entry) -> None:
        """Take note of an entry of the ledger."""
        trial_id = id_of(entry)
        if trial_id.stage not in ("search", "rung"):
            self._progress.note(f"{entry.id}: {entry.outcome}, {entry.seconds:.0f} s")
            return
        if not self._outcomes:
            counted = ", in epochs" if self._halved else ""
            self._progress.phase(f"search and random control{counted}", self._total)
        self._outcomes[entry.outcome] += 1
        self._spent += trial_id.epochs or self._epochs
        if entry.result and trial_id.stage == "search":
            self._accuracy = max(self._accuracy, entry.result["accuracy"])
            self._transfer = min(self._transfer, entry.result["transfer"])
        if entry.stage == "evolve":
            self._generation = max(self._generation, int(entry.payload["generation"]) + 1)
        self._progress.update(self._spent, self._facts())

    def _facts(self) -> str:
        outcomes = ", ".join(f"{count} {kind}" for kind, count in sorted(self._outcomes.items()))
        generation = (
            "" if self._halved else f"generation {self._generation} of {self._generations}, "
        )
        if self._transfer == 1.0 and self._accuracy == 0.0:
            return f"{generation}{outcomes}"
        return (
            f"{generation}best accuracy "
            f"{self._accuracy:.3f}, lowest transfer {self._transfer:.3f}, {outcomes}"
        )
