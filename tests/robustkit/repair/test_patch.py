"""Patches: applied, reverted and joined, bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robustkit import models
from robustkit.errors import RepairError
from robustkit.models import Classifier, digest
from robustkit.repair import Patch, difference, make_patch
from tests.robustkit.repair.nets import (
    bits,
    chosen,
    frozen,
    mixed_net,
    mlp,
    parameter,
    same_tensors,
    substituted,
)
from tests.robustkit.repair.patches import SELECTION, VALUES, flat, same_patch, some_patch


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
