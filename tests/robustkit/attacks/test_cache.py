"""What is kept comes back the same; what is not what it should be is computed anew, and said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from robustkit.attacks import Store
from robustkit.attacks.cache import write
from robustkit.compute.tensorfiles import checksum

ORIGIN = {"net": "abc", "n": 3}


def numbers() -> dict[str, Tensor]:
    return {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor([True, False])}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


def filled(folder: Path) -> Path:
    Store(folder).fetch("kind", ORIGIN, numbers)
    (path,) = folder.iterdir()
    return path


def refuse() -> dict[str, Tensor]:
    raise AssertionError("computed twice")


def test_a_thing_is_computed_once_per_origin(tmp_path: Path) -> None:
    store = Store(tmp_path / "new")
    made = store.fetch("kind", ORIGIN, numbers)
    assert same(store.fetch("kind", dict(reversed(ORIGIN.items())), refuse), made)
    assert (store.hits, store.misses, store.notes) == (1, 1, [])
    for kind, origin in (("kind", {**ORIGIN, "n": 4}), ("other", ORIGIN)):
        with pytest.raises(AssertionError, match="twice"):
            store.fetch(kind, origin, refuse)


def test_without_a_folder_only_small_things_are_kept() -> None:
    store = Store(None)
    store.fetch("kind", ORIGIN, numbers)
    assert same(store.fetch("kind", ORIGIN, refuse), numbers())
    store.fetch("large", ORIGIN, lambda: {"a": torch.zeros(2**18 + 1)})
    with pytest.raises(AssertionError, match="twice"):
        store.fetch("large", ORIGIN, refuse)


def check_mended(path: Path, reason: str) -> None:
    store = Store(path.parent)
    assert same(store.fetch("kind", ORIGIN, numbers), numbers())
    assert (store.hits, store.misses) == (0, 1)
    assert len(store.notes) == 1
    assert store.notes[0].startswith(f"{path}: ")
    assert store.notes[0].endswith("; computed anew")
    assert reason in store.notes[0]
    assert same(Store(path.parent).fetch("kind", ORIGIN, refuse), numbers())


@pytest.mark.parametrize("kept", [0, 7, 0.5, -1])
def test_a_file_cut_short_is_computed_anew_and_said(tmp_path: Path, kept: float) -> None:
    path = filled(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if kept == 0.5 else int(kept)])
    check_mended(path, "damaged")


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    path = filled(tmp_path)
    whole = path.read_bytes()
    for position in range(0, len(whole), 7):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
        store = Store(tmp_path)
        kept = store.fetch("kind", ORIGIN, numbers)
        # A flip in the header's padding changes nothing that is read.
        assert same(kept, numbers())
        assert store.notes or whole[position : position + 1] in b" "


def test_a_file_of_another_origin_is_computed_anew_and_said(tmp_path: Path) -> None:
    path = filled(tmp_path)
    write(path, {"a": torch.zeros(2)}, {**ORIGIN, "net": "another"})
    check_mended(path, "of another model, data or attack than its name says")


@pytest.mark.parametrize(
    ("notes", "reason"),
    [
        (None, "damaged"),
        ("{", "damaged"),
        ("[]", "damaged"),
        (json.dumps({"format": 1, "origin": ORIGIN}), "damaged"),
        (json.dumps({"format": 2, "origin": ORIGIN, "sha256": "0"}), "of format 2"),
        (json.dumps({"format": 1, "origin": ORIGIN, "sha256": "0"}), "checksum"),
    ],
)
def test_wrong_notes_are_noticed(tmp_path: Path, notes: str | None, reason: str) -> None:
    path = filled(tmp_path)
    save_file(load_file(path), path, metadata=None if notes is None else {"robustkit_store": notes})
    check_mended(path, reason)


def test_the_checksum_sees_names_types_and_shapes() -> None:
    value = torch.arange(4, dtype=torch.int32)
    others = [
        {"a": value},
        {"b": value},
        {"a": value.view(2, 2)},
        {"a": value.view(torch.float32)},
        {"a": value + 1},
        {},
    ]
    assert len({checksum(each) for each in others}) == len(others)


def test_a_folder_beside_is_only_read(tmp_path: Path) -> None:
    beside = tmp_path / "beside"
    Store(beside).fetch("kind", ORIGIN, numbers)
    held = sorted(beside.iterdir())
    store = Store(tmp_path / "own", beside=beside)
    assert same(store.fetch("kind", ORIGIN, refuse), numbers())
    store.fetch("other", ORIGIN, numbers)
    assert (store.hits, store.misses) == (1, 1)
    assert sorted(beside.iterdir()) == held
    assert len(list((tmp_path / "own").iterdir())) == 1
