"""How exactly a GPU multiplies float32 numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def exact_products() -> Iterator[None]:
    """Float32 products in full inside, as before after it.

    torch lets a GPU round the factors of convolutions to ten bits (TF32): good enough to learn and
    to attack, but sums that should vanish are then a thousandth off. Without a GPU nothing changes.
    """
    kinds: tuple[Any, ...] = (
        torch.backends.cudnn.conv,  # type: ignore[attr-defined]
        torch.backends.cuda.matmul,
    )
    before = [kind.fp32_precision for kind in kinds]
    try:
        for kind in kinds:
            kind.fp32_precision = "ieee"
        yield
    finally:
        for kind, precision in zip(kinds, before, strict=True):
            kind.fp32_precision = precision
