"""Patches do what they say, can be undone and joined, and their files are not taken on trust."""

from __future__ import annotations

import copy
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save as pack
from torch import Tensor, nn

from robustkit import models
from robustkit.errors import RepairError
from robustkit.models import Classifier, digest
from robustkit.repair import Patch, Selection, difference, make_patch
from robustkit.repair.patch import _NOTE, Change
from robustkit.repair.patch import checksum as checksum_of
from tests.robustkit.repair.nets import (
    bits,
    chosen,
    frozen,
    mixed_net,
    mlp,
    parameter,
    same_tensors,
    seeded,
    substituted,
    wrap,
)

SELECTION = chosen(_1=[0, 3, 100, 287], _3=[0, 31])
VALUES = torch.tensor([0.5, -1e-30, 3.0, 0.25, -2.0, 1e30])


def some_patch(model: Classifier, **provenance: Any) -> Patch:
    return make_patch(model, SELECTION, VALUES, **provenance)


def same_patch(first: Patch, second: Patch) -> bool:
    return same_tensors(flat(first), flat(second)) and (
        first.parent,
        first.child,
        first.provenance,
    ) == (second.parent, second.child, second.provenance)


def flat(patch: Patch) -> dict[str, Tensor]:
    return {
        f"{part}/{name}": getattr(change, part)
        for name, change in patch.changes.items()
        for part in ("indices", "old", "new")
    }


# ----------------------------------------------------------------------------- apply and revert


@pytest.mark.parametrize("training", [False, True])
def test_a_patch_is_applied_and_reverted_bit_for_bit(training: bool) -> None:
    model = mlp().train(training)
    before = frozen(model)
    patch = some_patch(model)
    assert len(patch) == 6
    applied = patch.apply(model)
    assert same_tensors(frozen(applied), frozen(substituted(model, SELECTION, VALUES)))
    assert (patch.parent, patch.child) == (digest(model), digest(applied))
    assert patch.parent != patch.child
    after = frozen(applied)
    reverted = patch.revert(applied)
    assert same_tensors(frozen(reverted), before)
    assert digest(reverted) == patch.parent
    # Neither of the models that were given has changed.
    assert same_tensors(frozen(model), before)
    assert same_tensors(frozen(applied), after)
    assert [each.training for each in model.modules()] == [training] * len(list(model.modules()))
    shared = {each.data_ptr() for each in model.parameters()}
    assert not shared & {each.data_ptr() for each in applied.parameters()}


def test_a_patch_lists_what_changes_and_nothing_else() -> None:
    model = mlp()
    values = SELECTION.values(model)
    values[1], values[5] = 7.0, 8.0
    patch = make_patch(model, SELECTION, values, why="test")
    assert len(patch) == 2
    assert patch.provenance == {"why": "test"}
    assert {name: each.indices.tolist() for name, each in patch.changes.items()} == {
        "1.weight": [3],
        "3.weight": [31],
    }
    assert patch.changes["1.weight"].new.tolist() == [7.0]
    assert bits(patch.changes["3.weight"].old) == bits(parameter(model, "3").flatten()[31:])


@pytest.mark.parametrize("values", [None, "as they are"])
def test_an_empty_patch_changes_nothing(tmp_path: Path, values: str | None) -> None:
    model = mlp()
    patch = make_patch(model, SELECTION, None if values is None else SELECTION.values(model))
    assert len(patch) == 0
    assert not patch.changes
    assert patch.parent == patch.child == digest(model)
    assert same_tensors(frozen(patch.apply(model)), frozen(model))
    assert same_tensors(frozen(patch.revert(model)), frozen(model))
    patch.save(tmp_path / "empty.safetensors")
    assert same_patch(Patch.load(tmp_path / "empty.safetensors"), patch)
    other = some_patch(model)
    assert same_tensors(flat(patch.compose(other)), flat(other))


def test_the_difference_of_two_models_is_a_patch_between_them() -> None:
    model, other = mixed_net(0), mixed_net(1)
    with torch.no_grad():
        parameter(other, "2").copy_(parameter(model, "2"))
    patch = difference(model, other, by="hand")
    assert patch.provenance == {"by": "hand"}
    assert set(patch.changes) == {
        f"{layer}.{kind}" for layer in ("0", "2", "5", "7") for kind in ("weight", "bias")
    } - {"2.weight"}
    assert patch.child == digest(other)
    assert same_tensors(frozen(patch.apply(model)), frozen(other))
    assert same_tensors(frozen(patch.revert(other)), frozen(model))
    assert len(difference(model, copy.deepcopy(model))) == 0


def test_values_that_are_no_numbers_are_values_too(tmp_path: Path) -> None:
    model = mlp()
    values = torch.tensor([torch.nan, torch.inf, -torch.inf, 1.0, 2.0, 3.0])
    patch = make_patch(model, SELECTION, values)
    patch.save(tmp_path / "odd.safetensors")
    applied = Patch.load(tmp_path / "odd.safetensors").apply(model)
    assert bits(SELECTION.values(applied)) == bits(values)
    assert same_tensors(frozen(patch.revert(applied)), frozen(model))


def test_a_zero_that_changes_its_sign_is_a_change() -> None:
    model = mlp()
    with torch.no_grad():
        parameter(model, "1")[0, 0] = 0.0
    other = substituted(model, chosen(_1=[0]), torch.tensor([-0.0]))
    assert digest(model) != digest(other)
    assert same_tensors(frozen(difference(model, other).apply(model)), frozen(other))


def test_convolutions_may_lie_in_memory_channels_last() -> None:
    model, selection = mixed_net(), chosen(_2=[0, 50])
    values = torch.tensor([0.5, -0.5])
    assert len(make_patch(model, selection, values)) == 2
    model = model.to(memory_format=torch.channels_last)
    applied = make_patch(model, selection, values).apply(model)
    assert bits(selection.values(applied)) == bits(values)


def test_a_patch_is_for_its_parent_alone() -> None:
    model, other = mlp(0), mlp(1)
    patch = some_patch(model)
    applied = patch.apply(model)
    with pytest.raises(RepairError, match=f"for the model {digest(model)[:12]}…, not for"):
        patch.apply(other)
    with pytest.raises(RepairError, match="the patch is for the model"):
        patch.apply(applied)
    with pytest.raises(RepairError, match=f"made the model {digest(applied)[:12]}…, not"):
        patch.revert(model)
    nearly = substituted(model, chosen(_3=[5]), torch.tensor([0.123]))
    with pytest.raises(RepairError, match="not for"):
        patch.apply(nearly)


def test_a_patched_model_is_a_model_file_like_any_other(tmp_path: Path) -> None:
    model = models.build("small", num_classes=3, in_channels=1, image_size=8, width=2, seed=0)
    selection = chosen(head_1=[0, 5])
    patch = make_patch(model, selection, torch.tensor([1.0, 2.0]))
    models.save(patch.apply(model), tmp_path / "model.safetensors", parent=patch.parent)
    again = models.load(tmp_path / "model.safetensors")
    assert digest(again) == patch.child
    assert same_tensors(frozen(patch.revert(again)), frozen(model))


# ------------------------------------------------------------------------------------- compose

ENTRIES = st.dictionaries(
    st.tuples(st.sampled_from(["1", "3"]), st.integers(0, 7)),
    st.sampled_from([0.5, -1.0, 0.1, None]),
    max_size=10,
)


def stepped(model: Classifier, start: Classifier, entries: Mapping[Any, float | None]) -> Patch:
    """A patch of `model` that gives entries a value or, for None, the one they had in `start`."""
    changed = copy.deepcopy(model)
    with torch.no_grad():
        for (layer, index), value in entries.items():
            first = parameter(start, layer).view(-1)[index]
            parameter(changed, layer).view(-1)[index] = first if value is None else value
    return difference(model, changed)


@settings(max_examples=60)
@given(first=ENTRIES, second=ENTRIES)
def test_two_patches_are_joined_to_one(
    first: dict[Any, float | None], second: dict[Any, float | None]
) -> None:
    model = mlp()
    patches = [stepped(model, model, first)]
    middle = patches[0].apply(model)
    patches.append(stepped(middle, model, second))
    after = patches[1].apply(middle)
    joined = patches[0].compose(patches[1])
    assert (joined.parent, joined.child) == (digest(model), digest(after))
    assert same_tensors(frozen(joined.apply(model)), frozen(after))
    assert same_tensors(frozen(joined.revert(after)), frozen(model))
    # No entry is listed in vain, none twice, and they ascend.
    states = (frozen(model), frozen(after))
    differing = sum(int((states[0][name] != states[1][name]).sum()) for name in states[0])
    assert len(joined) == differing
    for change in joined.changes.values():
        assert len(change.indices)
        assert bool((change.indices[1:] > change.indices[:-1]).all())
        assert change.indices.dtype == torch.int64
        assert change.old.dtype == change.new.dtype == torch.float32


def test_a_joined_patch_remembers_both_and_can_be_saved(tmp_path: Path) -> None:
    model = mlp()
    first = some_patch(model, name="first")
    second = make_patch(
        first.apply(model), chosen(_3=[0, 1]), torch.tensor([4.0, 5.0]), name="second"
    )
    joined = first.compose(second)
    assert joined.provenance == {"composed": [{"name": "first"}, {"name": "second"}]}
    assert len(joined) == 7
    joined.save(tmp_path / "joined.safetensors")
    assert same_patch(Patch.load(tmp_path / "joined.safetensors"), joined)


def test_patches_that_do_not_follow_each_other_are_not_joined() -> None:
    model = mlp()
    first = some_patch(model)
    with pytest.raises(RepairError, match="the patches do not follow each other"):
        first.compose(first)
    second = make_patch(first.apply(model), chosen(_3=[0]), torch.tensor([4.0]))
    with pytest.raises(RepairError, match="the patches do not follow each other"):
        second.compose(first)


def test_joined_patches_respect_the_sign_of_zero() -> None:
    model, one = mlp(), chosen(_1=[0])
    with torch.no_grad():
        parameter(model, "1")[0, 0] = 0.0
    first = make_patch(model, one, torch.tensor([1.0]))
    second = make_patch(first.apply(model), one, torch.tensor([-0.0]))
    joined = first.compose(second)
    assert same_tensors(frozen(joined.revert(joined.apply(model))), frozen(model))


# --------------------------------------------------------------------------------------- files


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
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(RepairError, match=f"{path}: no such patch"):
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
