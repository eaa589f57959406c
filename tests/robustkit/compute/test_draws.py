"""Random numbers by place against the definition, and as random numbers."""

from __future__ import annotations

import pytest
import torch

from robustkit.compute import derive_seed
from robustkit.compute.draws import uniform

WORD = 2**64


def mixed(number: int) -> int:
    """SplitMix64's finaliser, in whole numbers."""
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) % WORD
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) % WORD
    return number ^ (number >> 31)


def test_numbers_are_those_of_the_definition() -> None:
    seeds = torch.tensor([0, 7, 2**62 + 5])
    found = uniform(seeds, (2, 3), "a", 1)
    for row, seed in enumerate(seeds.tolist()):
        start = mixed(seed ^ derive_seed("a", 1))
        expected = [
            (mixed((start + (place + 1) * 0x9E3779B97F4A7C15) % WORD) >> 40) / 2**24
            for place in range(6)
        ]
        assert found[row].flatten().tolist() == expected


def test_numbers_look_random() -> None:
    seeds = torch.arange(50)  # as bad as seeds can be
    numbers = uniform(seeds, (1000,), "noise")
    assert 0 <= float(numbers.min()) < float(numbers.max()) < 1
    counts = torch.histc(numbers, bins=20, min=0, max=1)
    expected = numbers.numel() / 20
    assert float(((counts - expected) ** 2 / expected).sum()) < 43.8  # p = 0.001, 19 degrees
    for other in (uniform(seeds, (1000,), "other"), uniform(seeds + 50, (1000,), "noise")):
        together = torch.stack([numbers.flatten(), other.flatten()])
        assert abs(float(torch.corrcoef(together)[0, 1])) < 0.02
    neighbours = torch.stack([numbers[:, :-1].flatten(), numbers[:, 1:].flatten()])
    assert abs(float(torch.corrcoef(neighbours)[0, 1])) < 0.02
    rows = torch.corrcoef(numbers)
    assert float((rows - torch.eye(50)).abs().max()) < 0.2


@pytest.mark.parametrize("shape", [(), (3,), (2, 4, 5)])
def test_a_row_does_not_depend_on_the_others(shape: tuple[int, ...]) -> None:
    seeds = torch.tensor([5, 1, 9])
    together = uniform(seeds, shape, "x", 2)
    assert together.shape == (3, *shape)
    for row in range(3):
        assert torch.equal(uniform(seeds[row : row + 1], shape, "x", 2)[0], together[row])
    assert not torch.equal(together, uniform(seeds, shape, "x", 3))
