"""One training on several processes: torchrun starts them, each works on its shards of a batch.

Gradients are averaged by hand, in one buffer: a step may run the detector several times (target
images, a teacher's boxes), for which torch's wrapper has no place.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn

from robustkit.errors import ConfigError


@contextmanager
def process_group() -> Iterator[None]:
    """Enter the process group that torchrun describes, if any; leave it at the end."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield
        return
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    local_rank, among = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    if gpus:
        torch.cuda.set_device(
            local_rank % gpus
        )  # the device "cuda" is each process's own from here on
    dist.init_process_group(backend_for(gpus, among))
    try:
        yield
    finally:
        dist.destroy_process_group()


def backend_for(gpus: int, processes: int) -> str:
    """Return the backend for so many `processes` on a machine with so many `gpus`.

    NCCL is the fastest, but wants a GPU for each process and knows no tensors of the CPU.
    """
    return "cpu:gloo,cuda:nccl" if gpus >= processes else "gloo"


def rank() -> int:
    """Return this process's number; 0 where there is one only."""
    return dist.get_rank() if dist.is_initialized() else 0


def count() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def own_shards(shards: int) -> range:
    """Return this process's shards; raises `ConfigError` where they cannot be divided."""
    if shards % count():
        raise ConfigError(f"{shards} shards on {count()} processes: shards must be a multiple")
    per_process = shards // count()
    return range(rank() * per_process, (rank() + 1) * per_process)


def add_up(values: Iterable[Tensor]) -> None:
    """Replace tensors by their sums over all processes."""
    if not dist.is_initialized():
        return
    listed = list(values)
    joined = torch.cat([tensor.reshape(-1) for tensor in listed])
    dist.all_reduce(joined)
    start = 0
    for tensor in listed:
        tensor.copy_(joined[start : start + tensor.numel()].view_as(tensor))
        start += tensor.numel()


def gathered(rows: Tensor) -> Tensor:
    """Return the rows of all processes, in their order, on the CPU."""
    if not dist.is_initialized():
        return rows
    parts: list[Tensor | None] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, rows.cpu())
    return torch.cat([part for part in parts if part is not None])


def same_everywhere(model: nn.Module) -> None:
    """Give every process the buffers of the first: each saw only its own shards."""
    if dist.is_initialized():
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)
