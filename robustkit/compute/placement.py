"""What lies on the device, and what stays with the host and is copied there batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import psutil
import torch
from torch import Tensor

# The part of a device's free memory that training data may fill. Candidates that are packed on one
# GPU may all look at the same moment: four of them leave half of it to nets and their graphs.
SHARE = 1 / 8

FreeMemory = Callable[[torch.device], int]


def free_memory(device: torch.device) -> int:
    """Bytes that this process can still get on `device`."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What the allocator keeps for this process and does not use is free to it, too.
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + kept)
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return int(psutil.virtual_memory().available)


def placed(
    tensors: Sequence[Tensor], device: torch.device, free: FreeMemory = free_memory
) -> list[Tensor]:
    """`tensors` on `device` as far as `SHARE` of its free memory goes; the others as they are.

    In the order given: what is wanted most on the device comes first.
    """
    room = SHARE * free(device)
    found = []
    for each in tensors:
        size = each.numel() * each.element_size()
        if size <= room:
            room -= size
            each = each.to(device)
        found.append(each)
    return found


def handed(rows: Tensor, device: torch.device) -> Tensor:
    """`rows`, a batch of something that may lie with the host, on `device`.

    To a GPU it goes from pinned memory, beside what the GPU is busy with.
    """
    if device.type == "cuda" and rows.device.type == "cpu":
        return rows.pin_memory().to(device, non_blocking=True)
    return rows.to(device)
