"""From a device's name to the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

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
    """The device called `name`: "auto", "cpu", "cuda", "cuda:1", "mps".

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
    """Where the module's weights are; the CPU, if it has none."""
    return next((weight.device for weight in module.parameters()), torch.device("cpu"))


@contextmanager
def on_device(net: nn.Module, device: torch.device | None) -> Iterator[torch.device]:
    """Have `net` on `device` inside, and back where it was afterwards; yield where it is.

    None leaves it where it is. With several nets used one after the other, memory of the device is
    taken for one. Raises `DeviceError` for a net that is spread over several devices already.
    """
    home = device_of(net)
    if device is None or device == home:
        yield home
        return
    spread = {str(each.device) for each in [*net.parameters(), *net.buffers()]}
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
    """How many devices of `kind` torch can use here."""
    if kind == "cuda":
        return torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "mps":
        return int(torch.backends.mps.is_available())
    return 1


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that an allocator, of python or of any device, had no memory left.

    >>> is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"))
    True
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(t in str(error) for t in _OUT_OF_MEMORY_TEXTS)
