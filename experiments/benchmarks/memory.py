"""What a work takes of memory, measured where no memory lies about that other work has freed."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

import psutil
import torch

Result = TypeVar("Result")


def in_fresh_process(work: Callable[[], Result]) -> Result:
    """What `work`, a function of a module, returns in a process of its own, on one thread.

    Suites keep the memory that they have freed: what came after them would seem to take none.
    """
    with ProcessPoolExecutor(
        1, mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as fresh:
        return fresh.submit(work).result()


def resident() -> int:
    """The bytes that this process holds in memory now."""
    return int(psutil.Process(os.getpid()).memory_info().rss)
