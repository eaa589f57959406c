"""Random numbers by place: each depends on its seed and on where it is used, not on the order.

A counter is mixed (SplitMix64, Steele, Lea and Flood 2014), so that what an image draws is the
same in every batch, on every device, and whatever else has been drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod

import torch
from torch import Tensor

from robustkit.compute.seeds import derive_seed

_BITS = 24  # of a float32 in [0,1)


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


_STEP = _signed(0x9E3779B97F4A7C15)
_MIXERS = ((30, _signed(0xBF58476D1CE4E5B9)), (27, _signed(0x94D049BB133111EB)))


def uniform(seeds: Tensor, shape: Sequence[int], *place: int | str) -> Tensor:
    """Return numbers uniform in [0,1), float32 (n,*shape), for `seeds` int64 (n,).

    Row i depends on `seeds[i]` and `place` alone. They are multiples of 2^-24.

    >>> seeds = torch.tensor([3, 4])
    >>> alone = uniform(seeds[1:], (2, 2), "noise", 5)
    >>> torch.equal(alone[0], uniform(seeds, (2, 2), "noise", 5)[1])
    True
    """
    starts = _mixed(seeds ^ _place(place))
    counter = torch.arange(1, prod(shape) + 1, device=seeds.device) * _STEP
    bits = _mixed(starts[:, None] + counter)
    numbers = _shifted(bits, 64 - _BITS).to(torch.float32).mul_(2.0**-_BITS)
    return numbers.view(len(seeds), *shape)


@lru_cache(4096)
def _place(place: tuple[int | str, ...]) -> int:
    return derive_seed(*place)


def _mixed(numbers: Tensor) -> Tensor:
    """Return every number's bits mixed; products are taken modulo 2^64."""
    for shift, factor in _MIXERS:
        numbers = (numbers ^ _shifted(numbers, shift)).mul_(factor)
    return numbers ^ _shifted(numbers, 31)


def _shifted(numbers: Tensor, bits: int) -> Tensor:
    """Return int64 numbers shifted to the right, zeros coming in."""
    return (numbers >> bits).bitwise_and_((1 << (64 - bits)) - 1)
