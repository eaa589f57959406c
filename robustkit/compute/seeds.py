"""Where random numbers come from: seeds derived from names, and generators that are put back."""

from __future__ import annotations

import hashlib
import json
import operator
import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import torch

from robustkit.errors import ConfigError


def check_seed(seed: int) -> None:
    """Raise `ConfigError` unless `seed` is one that all generators take: in [0, 2⁶³)."""
    if not 0 <= seed < 2**63:
        raise ConfigError(f"seed must be at least 0 and below 2**63, not {seed}")


def derive_seed(*parts: int | str) -> int:
    """Return a seed in [0, 2⁶³) for the thing named by `parts`.

    It depends on the parts alone, `1` and `"1"` being different, so that a trial draws the same
    numbers on every machine, with any number of workers and after a resume. The parts are hashed
    (SHA-256) and spread by numpy's `SeedSequence`. Raises `TypeError` for a part of another type.

    >>> derive_seed(0, "trial", 7) == derive_seed(0, "trial", 7)
    True
    >>> derive_seed(0, "trial", 7) == derive_seed(0, "trial", "7")
    False
    """
    named = [part if isinstance(part, str) else operator.index(part) for part in parts]
    digest = hashlib.sha256(json.dumps(named).encode()).digest()
    sequence = np.random.SeedSequence(int.from_bytes(digest, "big"))
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def torch_generator(*parts: int | str) -> torch.Generator:
    """Return a CPU generator seeded by `derive_seed(*parts)`."""
    return torch.Generator().manual_seed(derive_seed(*parts))


def _seed_torch(seed: int) -> None:
    """Seed torch's generators; without an accelerator the CPU's alone, which is much faster.

    `torch.manual_seed` else remembers every call, with its stack, for a device that never comes.
    """
    if torch.cuda.is_initialized() or _has_accelerator():  # type: ignore[no-untyped-call]
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


@lru_cache
def _has_accelerator() -> bool:
    return torch.accelerator.is_available()


@contextmanager
def isolated_rng(seed: int | None = None) -> Iterator[None]:
    """Leave the global generators of python, numpy and torch as they were, whatever happens inside.

    With a `seed` the block starts from it; with None it goes on from the present states. CUDA's
    generators are included once CUDA is in use.

    >>> before = torch.get_rng_state()
    >>> with isolated_rng(3):
    ...     first = torch.rand(1)
    >>> with isolated_rng(3):
    ...     bool(torch.rand(1) == first)
    True
    >>> torch.equal(torch.get_rng_state(), before)
    True
    """
    python_state, numpy_state = random.getstate(), np.random.get_state()
    torch_state = torch.get_rng_state()
    cuda = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    cuda_states = torch.cuda.get_rng_state_all() if cuda else []
    try:
        if seed is not None:
            random.seed(seed)
            np.random.seed(np.random.SeedSequence(seed).generate_state(4))
            _seed_torch(seed)
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        torch.set_rng_state(torch_state)
        if cuda:
            torch.cuda.set_rng_state_all(cuda_states)
