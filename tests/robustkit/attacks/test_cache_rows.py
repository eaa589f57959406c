"""A tensor written row by row is the file that would have been written whole, and mapped back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from robustkit.attacks import Store
from robustkit.attacks.cache import SMALL_SETS, Rows, read, write

ORIGIN = {"net": "abc", "n": 3}
WHOLE = torch.rand(7, 2, 3, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robustkit.compute.tensorfiles.SMALL_RUN", -1)
    monkeypatch.setattr("robustkit.attacks.cache.SMALL", -1)


def rows(whole: Tensor, *sizes: int) -> Rows:
    return Rows(tuple(whole.shape), whole.dtype, lambda: iter(torch.split(whole, list(sizes))))


def on_file(values: Tensor, path: Path) -> bool:
    """Whether the memory of `values` is a read-only map of `path`."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith(str(path)):
            start, end = (int(each, 16) for each in line.split()[0].split("-"))
            if start <= values.data_ptr() < end:
                return line.split()[1].startswith("r--")
    return False


def refused() -> Rows:
    def make() -> Iterator[Tensor]:
        raise AssertionError("computed twice")

    return Rows(tuple(WHOLE.shape), WHOLE.dtype, make)


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.int64, torch.bool])
def test_what_is_streamed_is_what_would_be_written_whole(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    whole = (WHOLE * 9).to(dtype)
    store = Store(tmp_path / "streamed")
    made = store.fetch_rows("set", ORIGIN, "images", rows(whole, 3, 3, 1))
    (path,) = (tmp_path / "streamed").iterdir()
    write(tmp_path / "whole.safetensors", {"images": whole}, ORIGIN)
    assert torch.equal(load_file(path)["images"], whole)
    for file in (path, tmp_path / "whole.safetensors"):
        tensors, origin = read(file)
        assert torch.equal(tensors["images"], whole)
        assert origin == ORIGIN
    assert torch.equal(made, whole)
    assert on_file(made, path)
    assert path.stat().st_size < (tmp_path / "whole.safetensors").stat().st_size + 64


def test_it_is_computed_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.fetch_rows("set", ORIGIN, "images", rows(WHOLE, 7))
    assert torch.equal(store.fetch_rows("set", ORIGIN, "images", refused()), WHOLE)
    assert torch.equal(Store(tmp_path).fetch_rows("set", ORIGIN, "images", refused()), WHOLE)
    assert (store.hits, store.misses, store.notes) == (1, 1, [])


def test_sets_of_earlier_versions_are_found(tmp_path: Path) -> None:
    path = Store(tmp_path).path("set", ORIGIN)
    assert path is not None
    write(path, {"images": WHOLE}, ORIGIN)  # as they were written, in one go
    assert torch.equal(Store(tmp_path).fetch_rows("set", ORIGIN, "images", refused()), WHOLE)


def test_every_flipped_byte_of_a_streamed_file_is_noticed(tmp_path: Path) -> None:
    whole = WHOLE[:2]
    Store(tmp_path).fetch_rows("set", ORIGIN, "images", rows(whole, 2))
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    for position in range(0, len(content), 5):
        flipped = bytes([content[position] ^ 4])
        path.write_bytes(content[:position] + flipped + content[position + 1 :])
        store = Store(tmp_path)
        kept = store.fetch_rows("set", ORIGIN, "images", rows(whole, 1, 1))
        assert torch.equal(kept, whole)
        assert store.notes or content[position : position + 1] == b" "


@pytest.mark.parametrize(
    ("sizes", "parts", "message"),
    [
        ((3, 3), None, "432 bytes of rows, where torch.float32"),
        ((7,), WHOLE.double(), "rows of torch.float64"),
        ((7,), WHOLE[:, :1], r"rows of torch.float32 \(7, 1, 3, 3\) in"),
    ],
)
def test_rows_that_are_not_what_was_said_leave_no_file(
    tmp_path: Path, sizes: tuple[int, ...], parts: Tensor | None, message: str
) -> None:
    given_parts = list(torch.split(WHOLE[:6] if parts is None else parts, list(sizes)))
    wrong = Rows(tuple(WHOLE.shape), WHOLE.dtype, lambda: given_parts)
    with pytest.raises(ValueError, match=message):
        Store(tmp_path).fetch_rows("set", ORIGIN, "images", wrong)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_set_leaves_no_file(tmp_path: Path) -> None:
    def make() -> Iterator[Tensor]:
        yield WHOLE[:4]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Store(tmp_path).fetch_rows(
            "set", ORIGIN, "images", Rows(tuple(WHOLE.shape), WHOLE.dtype, make)
        )
    assert list(tmp_path.iterdir()) == []


@given(folder=st.booleans(), size=st.integers(0, 2 * SMALL_SETS))
def test_only_large_sets_need_a_temporary_folder(folder: bool, size: int) -> None:
    store = Store(Path("anywhere") if folder else None)
    with store.with_space_for(size) as sets:
        assert (sets is store) == (folder or size <= SMALL_SETS)
        kept = sets.folder
        assert sets is store or (kept is not None and kept.is_dir())
        sets.notes.append("said")
    assert store.notes == ["said"]
    assert folder or kept is None or not kept.exists()


def test_without_a_folder_rows_are_in_memory() -> None:
    made = Store(None).fetch_rows("set", ORIGIN, "images", rows(WHOLE, 4, 3))
    assert torch.equal(made, WHOLE)
