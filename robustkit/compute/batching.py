"""How many images a network computes at once: as many as fit, and fewer where they did not."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from robustkit.compute.devices import free_memory, is_out_of_memory
from robustkit.errors import ConfigError, DeviceError, first_line

# What a batch may take on a CPU: a constant, so that batches, and with them the last digits of
# results, are the same on every machine.
CPU_BUDGET = 2 * 2**30
# What a batch may take of a GPU's free memory; the rest is for what the libraries need besides.
GPU_SHARE = 0.5
# The input, the output and a branch of the largest layer are in memory together.
ALIVE = 3

Note = Callable[[str], None]
T = TypeVar("T")

_MEASURED: WeakKeyDictionary[nn.Module, dict[tuple[int, ...], Footprint]] = WeakKeyDictionary()


def warn(note: str) -> None:
    """Issue `note` as a `RuntimeWarning`, where no other receiver is given."""
    warnings.warn(note, RuntimeWarning, stacklevel=3)


@dataclass(frozen=True)
class Footprint:
    """Bytes that one image takes in a network: in a `forward` pass, and until the `backward` one.

    Both are estimates. `forward` is three times the largest tensor that is kept on the way;
    `backward` is that, and everything that autograd saves. Weights do not count.
    """

    forward: int
    backward: int


def footprint(net: nn.Module, shape: tuple[int, ...]) -> Footprint:
    """Measure `net` with one black image of `shape` (C,H,W); once for each net and shape.

    To be called with the net in evaluation mode and its parameters frozen, as attacks have it.
    Raises `DeviceError` where even one image does not fit.
    """
    known = _MEASURED.setdefault(net, {})
    if shape not in known:
        try:
            known[shape] = _measure(net, shape)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise DeviceError(_too_large(_device(net), error)) from error
    return known[shape]


def _measure(net: nn.Module, shape: tuple[int, ...]) -> Footprint:
    # Weights are there once, whatever the batch: what is saved of them is not counted.
    weights = {tensor.untyped_storage().data_ptr() for tensor in _tensors(net)}
    saved: dict[int, int] = {}

    def keep(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
        return value

    kind = next(
        (tensor.dtype for tensor in _tensors(net) if tensor.is_floating_point()), torch.float32
    )
    image = torch.zeros((1, *shape), dtype=kind, device=_device(net), requires_grad=True)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        output = net(image.clone())  # a net may write into its images, but not into a leaf
    ends = [item.nbytes for item in (image, output) if isinstance(item, Tensor)]
    largest = ALIVE * max([*ends, *saved.values()])
    return Footprint(largest, largest + sum(saved.values()))


class Batches:
    """Rows in batches of at most `size`, halved for good when one does not fit into memory.

    `device` is named in the lines that `on_note` gets: "batch 64 did not fit on cuda:0; halved
    to 32". Raises `ConfigError` for a size below 1.
    """

    def __init__(self, size: int, device: torch.device, on_note: Note = warn) -> None:
        if size < 1:
            raise ConfigError(f"batch size must be at least 1, not {size}")
        self.size = size
        self.device = device
        self._on_note = on_note

    def over(
        self,
        count: int,
        work: Callable[[slice], T],
        *,
        generator: torch.Generator | None = None,
    ) -> Iterator[tuple[slice, T]]:
        """Yield every slice of `count` rows, in order, with what `work` makes of it.

        A batch that runs out of memory is halved and computed again, `generator` being put back
        first: no random number is drawn twice. Raises `DeviceError` where one row does not fit.
        """
        start = 0
        while start < count:
            rows = slice(start, min(start + self.size, count))
            state = None if generator is None else generator.get_state()
            results: list[T] = []
            reason = self._try(work, rows, results)
            if reason is None:
                yield rows, results.pop()
                start = rows.stop
                continue
            if generator is not None and state is not None:
                generator.set_state(state)
            self._halve(rows.stop - rows.start, reason)

    def _try(self, work: Callable[[slice], T], rows: slice, results: list[T]) -> str | None:
        """Append what `work` makes of `rows`, or return what the allocator said.

        In a function of its own, as an exception keeps the frames alive that hold the memory.
        """
        try:
            results.append(work(rows))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if rows.stop - rows.start == 1:
                raise DeviceError(_too_large(self.device, error)) from error
            return first_line(error)
        return None

    def _halve(self, tried: int, reason: str) -> None:
        self.size = max(1, tried // 2)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self._on_note(f"batch {tried} did not fit on {self.device}; halved to {self.size}")


def fitting_batches(
    net: nn.Module,
    shape: tuple[int, ...],
    *,
    chosen: int | None,
    most: int,
    backward: bool,
    on_note: Note = warn,
) -> Batches:
    """Return batches of images of `shape` (C,H,W): of `chosen` images, or of `most` that fit.

    Measured by `footprint`, with its demands on the net's state, against 2 GiB on a CPU and half of
    a GPU's free memory; `backward` where gradients are taken.
    """
    device = _device(net)
    if chosen is not None:
        return Batches(chosen, device, on_note)
    one = footprint(net, shape)
    budget = CPU_BUDGET if device.type == "cpu" else int(GPU_SHARE * free_memory(device))
    fits = budget // max(1, one.backward if backward else one.forward)
    return Batches(min(most, max(1, fits)), device, on_note)


def _tensors(net: nn.Module) -> list[Tensor]:
    return [*net.parameters(), *net.buffers()]


def _device(net: nn.Module) -> torch.device:
    return next((tensor.device for tensor in _tensors(net)), torch.device("cpu"))


def _too_large(device: torch.device, error: BaseException) -> str:
    return (
        f"not even one image at a time fits on {device} ({first_line(error)}); choose another "
        "--device, smaller images or a smaller model"
    )
