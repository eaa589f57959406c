"""Ratios of medians, measured in turns so that a machine's moods strike both sides alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from robustkit.compute import synchronize

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Claim:
    """A measured `value` beside its `bound`, which it should not exceed (or not fall below).

    Without a `bound` it is a figure to be known, and always kept.
    """

    what: str
    value: float
    bound: float | None
    at_most: bool
    unit: str = "×"
    detail: str = ""

    @property
    def kept(self) -> bool:
        """Whether the claim holds in this measurement."""
        if self.bound is None:
            return True
        return self.value <= self.bound if self.at_most else self.value >= self.bound

    def __str__(self) -> str:
        scale, unit = (100, " %") if self.unit == "%" else (1, self.unit)
        line = f"{self.what:<62} {self.value * scale:7.2f}{unit}"
        if self.bound is not None:
            sign = "≤" if self.at_most else "≥"
            verdict = "kept" if self.kept else "MISSED"
            line += f"  {sign} {self.bound * scale:g}{unit}  {verdict}"
        return f"{line}  ({self.detail})" if self.detail else line


def medians(*works: Callable[[], object], rounds: int = 9) -> list[float]:
    """Median seconds of each of `works`, run in turns after one warm-up round."""
    return [statistics.median(each) for each in timings(*works, rounds=rounds)]


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
