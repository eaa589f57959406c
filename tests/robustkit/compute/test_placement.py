"""What goes to the device and what stays, told by a free memory that the test makes up."""

from __future__ import annotations

import pytest
import torch

from robustkit.compute import fill_device, free_memory, to_device
from robustkit.compute.devices import SHARE

ELSEWHERE = torch.device("meta")  # another device that every machine has


@pytest.mark.parametrize(
    ("room", "expected"),
    [
        (0, ["cpu", "cpu", "cpu"]),
        (99, ["cpu", "cpu", "meta"]),
        (100, ["meta", "cpu", "cpu"]),
        (110, ["meta", "cpu", "meta"]),
        (299, ["meta", "cpu", "meta"]),
        (300, ["meta", "meta", "cpu"]),
        (310, ["meta", "meta", "meta"]),
    ],
)
def test_in_order_while_the_share_lasts(room: int, expected: list[str]) -> None:
    tensors = [
        torch.zeros(100, dtype=torch.uint8),
        torch.zeros(10, 10, dtype=torch.float16),
        torch.zeros(10, dtype=torch.uint8),
    ]
    found = fill_device(tensors, ELSEWHERE, lambda device: int(room / SHARE))
    assert [each.device.type for each in found] == expected


def test_the_free_memory_asked_for_is_that_of_the_device() -> None:
    asked: list[torch.device] = []

    def free(device: torch.device) -> int:
        asked.append(device)
        return 8

    fill_device([torch.zeros(1, dtype=torch.uint8)], ELSEWHERE, free)
    assert asked == [ELSEWHERE]


def test_this_machine_has_memory() -> None:
    assert free_memory(torch.device("cpu")) > 2**20


def test_rows_are_handed_over_and_stay_where_they_are_wanted() -> None:
    rows = torch.ones(3)
    assert to_device(rows, torch.device("cpu")) is rows
    assert to_device(rows, ELSEWHERE).device == ELSEWHERE
