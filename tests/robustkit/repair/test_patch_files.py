"""Patches in files: what is read, and every way a file can be wrong."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save as pack
from torch import Tensor, nn

from robustkit import models
from robustkit.errors import RepairError
from robustkit.models import digest
from robustkit.repair import Patch, Selection, make_patch
from robustkit.repair.patch import _NOTE, Change
from robustkit.repair.patch import checksum as checksum_of
from tests.robustkit.repair.nets import (
    bits,
    chosen,
    frozen,
    mlp,
    parameter,
    same_tensors,
    seeded,
    substituted,
    wrap,
)
from tests.robustkit.repair.patches import same_patch, some_patch


def saved(folder: Path) -> tuple[Path, Patch]:
    path = folder / "patch.safetensors"
    patch = some_patch(mlp(), run=3, name="näme", sizes=[1, 2], none=None)
    patch.save(path)
    return path, patch


def test_a_patch_is_saved_and_loaded(tmp_path: Path) -> None:
    path, patch = saved(tmp_path)
    again = Patch.load(str(path))
    assert same_patch(again, patch)
    assert len(again) == 6
    model = mlp()
    assert same_tensors(frozen(again.apply(model)), frozen(patch.apply(model)))
    assert [each.name for each in tmp_path.iterdir()] == ["patch.safetensors"]


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    for path, said in ((tmp_path / "none.safetensors", "no such patch"), (tmp_path, "a folder")):
        with pytest.raises(RepairError, match=f"{path}: {said}"):
            Patch.load(path)


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99])
def test_a_file_cut_short_is_an_error(tmp_path: Path, kept: float) -> None:
    path, _ = saved(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(RepairError, match=f"{path}: damaged"):
        Patch.load(path)


@pytest.mark.parametrize("flip", [1, 4, 128])
def test_every_flipped_byte_is_noticed(tmp_path: Path, flip: int) -> None:
    path, patch = saved(tmp_path)
    whole = path.read_bytes()
    unnoticed = 0
    for position in range(0, len(whole), 3):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ flip]) + whole[position + 1 :])
        again, said = patch, ""
        try:
            again = Patch.load(path)
        except RepairError as error:
            said = str(error)
        if said:
            assert said.startswith(f"{path}: ")
            continue
        # A flip in the header's padding changes nothing that is read.
        assert same_patch(again, patch)
        assert whole[position : position + 1] == b" "
        unnoticed += 1
    assert unnoticed < 8


def test_another_kind_of_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    models.save(
        models.build("small", num_classes=3, in_channels=1, image_size=8, width=2, seed=0), path
    )
    with pytest.raises(RepairError, match="no patch, but another kind of safetensors file"):
        Patch.load(path)
    path.write_bytes(pack({"a": torch.zeros(3)}))
    with pytest.raises(RepairError, match="no patch, but another kind of safetensors file"):
        Patch.load(path)
    path.write_text("a text, and not even a short one")
    with pytest.raises(RepairError, match="damaged, or not a safetensors file"):
        Patch.load(path)


def crafted(
    path: Path, tensors: dict[str, Tensor], note: Any = None, checksum: str | None = None
) -> Path:
    """A file with a valid checksum that says whatever is wanted."""
    model = mlp()
    plain = {"format": 1, "parent": digest(model), "child": "c", "provenance": {}}
    text = note if isinstance(note, str) else json.dumps({**plain, **(note or {})})
    notes = {_NOTE: text, "sha256": checksum or checksum_of(tensors, text)}
    path.write_bytes(pack(tensors, metadata=notes))
    return path


def parts(indices: list[int] | Tensor, name: str = "1.weight", **changed: Any) -> dict[str, Tensor]:
    where = torch.as_tensor(indices)
    made = {"indices": where, "old": torch.zeros(len(where)), "new": torch.ones(len(where))}
    return {f"{part}/{name}": each for part, each in {**made, **changed}.items()}


def test_a_crafted_file_of_the_right_shape_is_read(tmp_path: Path) -> None:
    patch = Patch.load(crafted(tmp_path / "made.safetensors", parts([0, 287])))
    assert bits(chosen(_1=[0, 287]).values(patch.apply(mlp()))) == bits(torch.ones(2))


@pytest.mark.parametrize("indices", [[288], [0, 10**12], [-1, 5], [-(2**63)], [0, 2**63 - 1]])
def test_entries_that_a_parameter_does_not_have_are_an_error(
    tmp_path: Path, indices: list[int]
) -> None:
    patch = Patch.load(crafted(tmp_path / "made.safetensors", parts(indices)))
    model = mlp()
    before = frozen(model)
    with pytest.raises(RepairError, match=r"changes entries that '1\.weight' does not have"):
        patch.apply(model)
    assert same_tensors(before, frozen(model))


@pytest.mark.parametrize("name", ["7.weight", "net.1.weight", "", "1"])
def test_a_parameter_that_is_not_there_is_an_error(tmp_path: Path, name: str) -> None:
    patch = Patch.load(crafted(tmp_path / "made.safetensors", parts([0], name)))
    with pytest.raises(RepairError, match=f"the patch changes '{name}', which the model does not"):
        patch.apply(mlp())


@pytest.mark.parametrize(
    "tensors",
    [
        {"indices/a": torch.tensor([0])},
        {**parts([0]), "more/1.weight": torch.zeros(1)},
        {**parts([0]), "loose": torch.zeros(1)},
        parts(torch.tensor([0], dtype=torch.int32)),
        parts(torch.tensor([0.0])),
        parts([0, 1], old=torch.zeros(1)),
        parts([0, 1], new=torch.zeros(3)),
        parts([0, 1], new=torch.zeros(2, dtype=torch.float64)),
        parts([0, 1], old=torch.zeros(2).long(), new=torch.zeros(2).long()),
        parts(torch.zeros(1, 1).long(), old=torch.zeros(1, 1), new=torch.zeros(1, 1)),
    ],
)
def test_tensors_that_are_no_patch_are_an_error(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    path = crafted(tmp_path / "made.safetensors", tensors)
    with pytest.raises(RepairError, match=f"{path}: not shaped like a patch"):
        Patch.load(path)


@pytest.mark.parametrize(
    "note", [{"parent": None}, {"child": 3}, {"provenance": []}, {"provenance": None}]
)
def test_notes_of_the_wrong_types_are_an_error(tmp_path: Path, note: dict[str, Any]) -> None:
    path = crafted(tmp_path / "made.safetensors", parts([0]), note)
    with pytest.raises(RepairError, match=f"{path}: not shaped like a patch"):
        Patch.load(path)


@pytest.mark.parametrize("note", ["[]", "3", "null", "{", ""])
def test_notes_that_are_no_object_are_an_error(tmp_path: Path, note: str) -> None:
    path = crafted(tmp_path / "made.safetensors", parts([0]), note)
    with pytest.raises(RepairError, match=f"{path}: "):
        Patch.load(path)


@pytest.mark.parametrize("indices", [[5, 5], [6, 5]])
def test_indices_that_do_not_ascend_are_an_error(tmp_path: Path, indices: list[int]) -> None:
    path = crafted(tmp_path / "made.safetensors", parts(indices))
    with pytest.raises(RepairError, match=f"{path}: not shaped like a patch"):
        Patch.load(path)


@pytest.mark.parametrize("version", [2, 99, None, "1"])
def test_a_newer_format_is_an_error(tmp_path: Path, version: Any) -> None:
    path = crafted(tmp_path / "made.safetensors", parts([0]), {"format": version})
    with pytest.raises(RepairError, match=f"patch format {version}; this robustkit reads format 1"):
        Patch.load(path)


@pytest.mark.parametrize("checksum", ["0" * 64, "x"])
def test_another_checksum_is_an_error(tmp_path: Path, checksum: str) -> None:
    path = crafted(tmp_path / "made.safetensors", parts([0]), checksum=checksum)
    with pytest.raises(RepairError, match="does not match the checksum"):
        Patch.load(path)


def test_a_header_of_any_length_is_an_error(tmp_path: Path) -> None:
    path, _ = saved(tmp_path)
    whole = path.read_bytes()
    for length in (0, 1, 2**31, 2**63):
        path.write_bytes(struct.pack("<Q", length) + whole[8:])
        with pytest.raises(RepairError, match="damaged"):
            Patch.load(path)


def test_the_checksum_sees_names_types_shapes_and_notes() -> None:
    value = torch.arange(4, dtype=torch.int32)
    others = [
        ({"a": value}, ""),
        ({"a": value}, " "),
        ({"b": value}, ""),
        ({"a": value.view(2, 2)}, ""),
        ({"a": value.view(torch.float32)}, ""),
        ({"a": value + 1}, ""),
        ({}, ""),
    ]
    assert len({checksum_of(*each) for each in others}) == len(others)
    first = {"a": value, "b": value + 1}
    assert checksum_of(first, "") == checksum_of(dict(reversed(first.items())), "")


def test_a_patch_by_hand() -> None:
    """One weight of one layer, from start to end."""
    net = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 4)))
    model = wrap(net)
    child = substituted(model, chosen(_1=[37]), torch.tensor([2.5]))
    old = parameter(model, "1")[1, 1].detach().clone()
    change = Change(torch.tensor([37]), old[None], torch.tensor([2.5]))
    patch = Patch({"1.weight": change}, digest(model), digest(child))
    assert len(patch) == 1
    assert same_tensors(frozen(patch.apply(model)), frozen(child))
    assert same_tensors(frozen(patch.revert(child)), frozen(model))
    made = make_patch(model, Selection({"1": torch.tensor([37])}), torch.tensor([2.5]))
    assert same_patch(made, patch)
