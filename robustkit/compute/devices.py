"""From a device's name to the device."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from robustkit.errors import DeviceError

# What torch's allocators say when they raise a plain RuntimeError.
_OUT_OF_MEMORY_TEXTS = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "MPS backend out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDA error: out of memory",  # the driver's own, when another process has the rest
)


def resolve_device(name: str = "auto") -> torch.device:
    """Return the device called `name`: "auto", "cpu", "cuda", "cuda:1", "mps".

    "auto" is the first that is there of CUDA, MPS and the CPU. Raises `DeviceError` for a name
    that is none of these and for a device this machine does not have.
    """
    if name == "auto":
        return torch.device(_best())
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise DeviceError(f"unknown device '{name}' (known: auto, cpu, cuda, cuda:N, mps)")
    count = _count(device.type)
    if (device.index or 0) >= count:
        raise DeviceError(
            f"device '{name}' is not on this machine: torch sees {count} {device.type} "
            f"device{'' if count == 1 else 's'}; use --device auto"
        )
    return device


def device_of(module: nn.Module) -> torch.device:
    """Return the device of the module's weights; the CPU, if it has none."""
    return next((weight.device for weight in module.parameters()), torch.device("cpu"))


@contextmanager
def on_device(net: nn.Module, device: torch.device | None) -> Iterator[torch.device]:
    """Move `net` to `device` inside the block and back afterwards; yield the device in use.

    None leaves it where it is. With several nets used one after the other, memory of the device is
    taken for one. Raises `DeviceError` for a net that is spread over several devices already.
    """
    home = device_of(net)
    if device is None or device == home:
        yield home
        return
    spread = {str(parameter.device) for parameter in [*net.parameters(), *net.buffers()]}
    if len(spread) > 1:
        raise DeviceError(
            f"a model spread over {' and '.join(sorted(spread))} cannot be moved to {device}: "
            "name no device"
        )
    try:
        yield device_of(net.to(device))
    finally:
        net.to(home)


def synchronize(device: torch.device) -> None:
    """Wait until `device` has done what it was given; a CPU has done it already.

    A GPU only takes orders: a clock that is not stopped after this measures how fast they are
    given.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _best() -> str:
    return next(kind for kind in ("cuda", "mps", "cpu") if _count(kind) > 0)


def _count(kind: str) -> int:
    """Return how many devices of `kind` torch can use here."""
    if kind == "cuda":
        return torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "mps":
        return int(torch.backends.mps.is_available())
    return 1


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether `error` says that an allocator, of python or a device, had no memory left.

    >>> is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"))
    True
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(t in str(error) for t in _OUT_OF_MEMORY_TEXTS)


# The part of a device's free memory that training data may fill. Candidates that are packed on one
# GPU may all look at the same moment: four of them leave half of it to nets and their graphs.
SHARE = 1 / 8

FreeMemory = Callable[[torch.device], int]


def free_memory(device: torch.device) -> int:
    """Return the bytes that this process can still get on `device`."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What the allocator keeps for this process and does not use is free to it, too.
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + kept)
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return int(psutil.virtual_memory().available)


def fill_device(
    tensors: Sequence[Tensor], device: torch.device, free: FreeMemory = free_memory
) -> list[Tensor]:
    """Return `tensors`, moved to `device` as long as `SHARE` of its free memory lasts.

    In the order given: what is wanted most on the device comes first.
    """
    budget = SHARE * free(device)
    moved = []
    for tensor in tensors:
        size = tensor.numel() * tensor.element_size()
        if size <= budget:
            budget -= size
            tensor = tensor.to(device)
        moved.append(tensor)
    return moved


def to_device(rows: Tensor, device: torch.device) -> Tensor:
    """Return the batch `rows` on `device`, wherever it lies now.

    To a GPU it goes from pinned memory, beside what the GPU is busy with.
    """
    if device.type == "cuda" and rows.device.type == "cpu":
        return rows.pin_memory().to(device, non_blocking=True)
    return rows.to(device)


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


# glibc's mallopt parameters, from malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_MIB = 1 << 20


def keep_freed_memory() -> bool:
    """Make glibc reuse large blocks; return whether that was possible.

    A training step frees and allocates the same few megabytes hundreds of times. By default glibc
    maps each such block afresh and the kernel zeroes its pages again: a fifth to a third of a
    double-backprop step of a small net on one CPU thread. Elsewhere than on glibc nothing is done.
    """
    if sys.platform != "linux":
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    settings = {_MMAP_THRESHOLD: 32 * _MIB, _TRIM_THRESHOLD: 1024 * _MIB, _TOP_PAD: 64 * _MIB}
    # A list: every setting is made, whatever became of the one before.
    return all([library.mallopt(name, value) == 1 for name, value in settings.items()])  # noqa: C419


@contextmanager
def exact_products() -> Iterator[None]:
    """Compute float32 products in full precision inside the block.

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
