from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from robustkit.data import arrays as storage
from robustkit.data.arrays import Pixels, cache_folder, in_memory_or_mapped, map_array, write_array
from robustkit.errors import DataError

SHAPE = (4, 1, 5, 5)


def count_up(pixels: Pixels) -> None:
    pixels[:] = np.arange(100, dtype=np.uint8).reshape(SHAPE)


@pytest.fixture
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=199))


def test_what_fits_stays_in_memory() -> None:
    tensor = in_memory_or_mapped(SHAPE, "counted", count_up)
    assert tensor.flatten().tolist() == list(range(100))
    assert not cache_folder().exists()


@pytest.mark.usefixtures("no_memory")
def test_what_does_not_fit_is_written_once_and_mapped() -> None:
    def never(_: Pixels) -> None:
        raise AssertionError("filled twice")

    first = in_memory_or_mapped(SHAPE, "counted", count_up)
    again = in_memory_or_mapped(SHAPE, "counted", never)
    assert torch.equal(first, again)
    assert first.flatten().tolist() == list(range(100))
    assert [path.name for path in cache_folder().iterdir()] == ["counted.npy"]


@pytest.mark.usefixtures("no_memory")
def test_a_filling_that_fails_leaves_no_file() -> None:
    def fail(_: Pixels) -> None:
        raise DataError("broken image")

    with pytest.raises(DataError, match="broken image"):
        in_memory_or_mapped(SHAPE, "counted", fail)
    assert not list(cache_folder().iterdir())


@pytest.mark.usefixtures("no_memory")
def test_a_damaged_cache_file_says_what_to_do() -> None:
    in_memory_or_mapped(SHAPE, "counted", count_up)
    with pytest.raises(DataError, match=r"counted\.npy holds \(4, 1, 5, 5\), not \(8, 1, 5, 5\)"):
        in_memory_or_mapped((8, 1, 5, 5), "counted", count_up)
    path = cache_folder() / "counted.npy"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"cannot be read as a whole .* delete it"):
        in_memory_or_mapped(SHAPE, "counted", count_up)


def test_a_mapped_file_costs_no_memory_of_its_own(tmp_path: Path) -> None:
    """A map charged against memory could not be made larger than memory."""
    path = tmp_path / "counted.npy"
    write_array(path, SHAPE, count_up)
    tensor = map_array(path)
    assert tensor[2].flatten().tolist() == list(range(50, 75))
    line = next(
        line for line in Path("/proc/self/maps").read_text().splitlines() if str(path) in line
    )
    assert line.split()[1].startswith("r--")


def test_the_cache_folder_may_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBUSTKIT_CACHE", "/chosen")
    assert storage.cache_folder() == Path("/chosen")
    monkeypatch.delenv("ROBUSTKIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert storage.cache_folder() == Path("/xdg/robustkit")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/someone")
    assert storage.cache_folder() == Path("/someone/.cache/robustkit")
