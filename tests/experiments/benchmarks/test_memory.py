"""Memory is measured where nothing that was freed before can hide it."""

from __future__ import annotations

import os

from experiments.benchmarks.scaling import cost_of_ledger, cost_of_trials
from experiments.benchmarks.timing import in_fresh_process, resident


def held() -> tuple[int, int]:
    """The process, and what it holds more after 64 MiB were taken; for a process of its own."""
    before = resident()
    taken = bytearray(os.urandom(2**20)) * 64
    return os.getpid(), resident() - before + 0 * len(taken)


def test_what_is_freed_here_hides_nothing_there() -> None:
    freed = bytearray(os.urandom(2**20)) * 256
    del freed
    process, grown = in_fresh_process(held)
    assert process != os.getpid()
    assert 60 * 2**20 < grown < 140 * 2**20


def test_trials_and_ledger_are_measured_in_small() -> None:
    seconds, grown = cost_of_trials(160)
    assert 0 < seconds < 10
    assert abs(grown) < 2**26
    small, large, _, size, opened = cost_of_ledger(400, 2000)
    assert len(small) == len(large) == 10
    assert min(*small, *large, opened) > 0
    assert size > 2000 * 50
