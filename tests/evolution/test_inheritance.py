"""Inherited weights: all for a twin, the common part for a relative, none for a stranger."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evolution.genotype import Genotype
from evolution.inheritance import inherit
from evolution.space import SearchSpace
from evolution.variation import mutate
from robustkit import models
from robustkit.errors import ModelError
from robustkit.models.blueprint import Block, Blueprint, Head
from tests.evolution.genotypes import genotypes

IMAGES = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def net(blueprint: Blueprint, seed: int) -> models.Classifier:
    built = models.build(blueprint, num_classes=5, in_channels=3, image_size=8, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for name, each in built.state_dict().items():
        if "running" in name:  # as if it had been trained
            each.copy_(torch.rand(each.shape, generator=generator) + 0.5)
    return built.eval()


@given(genotypes())
def test_a_twin_inherits_everything(genotype: Genotype) -> None:
    parent, child = net(genotype.blueprint(), 0), net(genotype.blueprint(), 1)
    assert inherit(child, [parent]) == 1.0
    assert torch.equal(child(IMAGES), parent(IMAGES))


@given(genotypes(), st.integers(0, 99))
def test_a_child_takes_over_parts_and_keeps_its_shape(genotype: Genotype, seed: int) -> None:
    mutant, _ = mutate(genotype, random.Random(seed), SearchSpace(max_params=10**9))
    parent, child = net(genotype.blueprint(), 0), net(mutant.blueprint(), 1)
    before = {name: each.clone() for name, each in child.state_dict().items()}
    source = {name: each.clone() for name, each in parent.state_dict().items()}
    share = inherit(child, [parent])
    after = child.state_dict()
    assert {name: each.shape for name, each in after.items()} == {
        name: each.shape for name, each in before.items()
    }
    assert all(torch.equal(each, source[name]) for name, each in parent.state_dict().items())
    changed = sum(int((after[name] != before[name]).sum()) for name in after)
    total = sum(each.numel() for name, each in after.items() if each.is_floating_point())
    # A zero of the parent's may meet a zero of the child's: fewer may change than are taken over.
    assert changed <= round(share * total)
    assert torch.isfinite(child(IMAGES)).all()


def test_the_common_part_of_a_wider_and_larger_convolution() -> None:
    narrow = Blueprint(blocks=(Block(channels=4, kernel=3, norm="none"),), head=Head())
    wide = Blueprint(blocks=(Block(channels=6, kernel=5, norm="none"),), head=Head())
    parent, child = net(narrow, 0), net(wide, 1)
    fresh = {name: each.clone() for name, each in child.state_dict().items()}
    inherit(child, [parent])
    own, other = child.state_dict(), parent.state_dict()
    (name,) = [name for name, each in own.items() if each.dim() == 4]
    assert torch.equal(own[name][:4, :, 1:4, 1:4], other[name])
    outside = torch.ones_like(own[name], dtype=torch.bool)
    outside[:4, :, 1:4, 1:4] = False
    assert torch.equal(own[name][outside], fresh[name][outside])
    back = net(narrow, 2)
    inherit(back, [child])  # and the other way round: the middle, the leading channels
    assert torch.equal(back.state_dict()[name], other[name])


def test_blocks_are_matched_past_one_that_was_put_in() -> None:
    first = Block(channels=4, kernel=3)
    second = Block(kind="residual", channels=8, inputs=(1,))
    parent = net(Blueprint(blocks=(first, second), head=Head()), 0)
    between = Block(kind="separable", channels=4, inputs=(1,))
    child = net(Blueprint(blocks=(first, between, replace(second, inputs=(2,))), head=Head()), 1)
    inherit(child, [parent])
    own, other = child.state_dict(), parent.state_dict()
    for mine, theirs in (("1", "1"), ("3", "2")):
        names = [name for name in other if name.startswith(f"net.nodes.{theirs}.")]
        assert names
        for name in names:
            twin = name.replace(f"nodes.{theirs}.", f"nodes.{mine}.", 1)
            assert torch.equal(own[twin], other[name])


def test_the_parent_that_has_more_is_chosen() -> None:
    blocks = Block(channels=8), Block(kind="residual", channels=8, inputs=(1,))
    near = net(Blueprint(blocks=blocks, head=Head()), 0)
    far = net(Blueprint(blocks=(Block(kind="separable", channels=8),), head=Head()), 2)
    child = net(Blueprint(blocks=blocks, head=Head()), 1)
    assert inherit(child, [far, near]) == 1.0
    assert torch.equal(child(IMAGES), near(IMAGES))


def test_without_parents_nothing_changes_and_other_networks_are_refused() -> None:
    child = net(Blueprint(blocks=(Block(),), head=Head()), 0)
    before = child(IMAGES)
    assert inherit(child, []) == 0.0
    assert torch.equal(child(IMAGES), before)
    zoo = models.build("small", num_classes=5, in_channels=3, image_size=8, seed=0)
    with pytest.raises(ModelError, match="a network of a blueprint"):
        inherit(child, [zoo])
