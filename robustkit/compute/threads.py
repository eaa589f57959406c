"""How many threads a computation uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def single_thread() -> Iterator[None]:
    """Compute on one thread inside the block, on as many as before after it.

    Sums over several threads depend on how the work was split; on one thread a result is the same
    to the bit wherever it is computed.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
