"""Batches cover every row once, whatever fits; what is measured is what is saved."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from robustkit.compute import Batches, fitting_batches, footprint, on_device
from robustkit.compute import batching as module
from robustkit.errors import ConfigError, DeviceError

CPU = torch.device("cpu")


def allocator(limit: int, error: Callable[[str], BaseException]) -> Callable[[slice], Tensor]:
    """Work that has memory for `limit` rows."""

    def work(part: slice) -> Tensor:
        if part.stop - part.start > limit:
            raise error("CUDA error: out of memory\nsecond line")
        return torch.arange(part.start, part.stop)

    return work


@given(count=st.integers(0, 40), size=st.integers(1, 50), limit=st.integers(1, 20))
def test_every_row_is_computed_once_and_in_order(count: int, size: int, limit: int) -> None:
    notes: list[str] = []
    batches = Batches(size, CPU, notes.append)
    made = list(batches.over(count, allocator(limit, torch.OutOfMemoryError)))
    rows = [int(row) for _, part in made for row in part]
    assert rows == list(range(count))
    assert all(part.stop - part.start == len(some) for part, some in made)
    assert bool(notes) == (min(size, count) > limit)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError, MemoryError])
def test_a_batch_that_does_not_fit_is_halved_for_good(
    error: Callable[[str], BaseException],
) -> None:
    notes: list[str] = []
    batches = Batches(64, torch.device("cuda:0"), notes.append)
    sizes = [len(made) for _, made in batches.over(100, allocator(20, error))]
    assert sizes == [16] * 6 + [4]
    assert batches.size == 16
    assert notes == [
        "batch 64 did not fit on cuda:0; halved to 32",
        "batch 32 did not fit on cuda:0; halved to 16",
    ]


def test_no_random_number_is_drawn_twice() -> None:
    def draws(limit: int) -> Tensor:
        generator = torch.Generator().manual_seed(3)
        check = allocator(limit, torch.OutOfMemoryError)

        def work(part: slice) -> Tensor:
            drawn = torch.rand(part.stop - part.start, 20, generator=generator)
            check(part)
            return drawn

        batches = Batches(8, CPU, lambda note: None)
        parts = [made for _, made in batches.over(21, work, generator=generator)]
        return torch.cat([*parts, torch.rand(1, 20, generator=generator)])

    assert torch.equal(draws(3), draws(100))


def test_where_one_row_does_not_fit_it_is_said_in_one_line() -> None:
    batches = Batches(2, CPU, lambda note: None)
    with pytest.raises(DeviceError, match="not even one image at a time fits on cpu") as caught:
        list(batches.over(5, allocator(0, RuntimeError)))
    assert "\n" not in str(caught.value)


def test_a_bug_is_no_lack_of_memory() -> None:
    def bug(part: slice) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        list(Batches(4, CPU).over(5, bug))


def test_where_nobody_listens_the_note_is_a_warning() -> None:
    with pytest.warns(RuntimeWarning, match="batch 2 did not fit on cpu; halved to 1"):
        list(Batches(2, CPU).over(2, allocator(1, torch.OutOfMemoryError)))


def test_a_batch_holds_at_least_one_row() -> None:
    with pytest.raises(ConfigError, match="batch size must be at least 1, not 0"):
        Batches(0, CPU)


class Exponential(nn.Module):
    """Two exponentials, each of which saves its result; and weights, which do not count."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1000, 1000), requires_grad=False)
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return images.exp().exp().flatten(1).sum(dim=1, keepdim=True) * self.weight[0, :2]


def test_what_is_measured_is_what_autograd_saves() -> None:
    net, image = Exponential(), 3 * 5 * 7 * 4
    found = footprint(net, (3, 5, 7))
    assert found.forward == 3 * image
    assert found.backward == 3 * image + 2 * image
    footprint(net, (3, 5, 7))
    assert net.calls == 1
    footprint(net, (3, 5, 8))
    assert net.calls == 2


def test_as_many_as_fit_into_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    net, image = Exponential(), 3 * 5 * 7 * 4

    def size(*, chosen: int | None = None, backward: bool = True) -> int:
        return fitting_batches(net, (3, 5, 7), chosen=chosen, most=250, backward=backward).size

    assert size() == 250
    monkeypatch.setattr(module, "CPU_BUDGET", 50 * image)
    assert (size(), size(backward=False)) == (10, 16)
    assert size(chosen=40) == 40
    monkeypatch.setattr(module, "CPU_BUDGET", 1)
    assert size() == 1


class Hungry(nn.Module):
    """A net for which there is no memory."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.empty(2**60) + images


def test_a_net_that_never_fits_is_refused_when_it_is_measured() -> None:
    with pytest.raises(DeviceError, match="not even one image at a time fits on cpu"):
        footprint(Hungry(), (1, 2, 2))


def test_a_net_is_on_the_device_inside_and_back_afterwards() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with on_device(net, torch.device("meta")) as place:
        assert place == torch.device("meta")
        assert {each.device.type for each in [*net.parameters(), *net.buffers()]} == {"meta"}
        net.to_empty(device="cpu")  # what is on meta has no values to bring back
    with on_device(net, None) as place:
        assert place == CPU
    net[1].to("meta")
    with pytest.raises(DeviceError, match="spread over cpu and meta cannot be moved to cuda:0"):  # noqa: SIM117
        with on_device(net, torch.device("cuda:0")):
            pass
