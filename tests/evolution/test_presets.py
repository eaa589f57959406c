"""Networks of known families as genotypes, and searches that start from them."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from evolution.objectives import parse_objectives
from evolution.presets import genotype_of, preset_genotypes
from evolution.space import SearchSpace
from evolution.strategies import STRATEGIES, SearchSettings, open_strategy
from robustkit import models

SHAPE, CLASSES = (3, 16, 16), 10
SPACE = SearchSpace(max_params=400_000, max_macs=2_000_000)
VGG = {"family": "zoo", "name": "vgg5", "options": {"width": 16}}


def test_presets_are_distinct_networks_of_the_space_and_the_references_own_comes_first() -> None:
    presets = preset_genotypes(SPACE, SHAPE, CLASSES, VGG)
    assert len({each.key() for each in presets}) == len(presets) > 4
    assert all(SPACE.fits(each, SHAPE, CLASSES) for each in presets)
    assert presets[0] == genotype_of(VGG)
    kinds = {block.kind for each in presets for block in each.blocks}
    assert kinds >= {"conv", "residual", "separable", "dense", "inception", "pool"}


def test_each_family_is_as_wide_as_the_limits_allow() -> None:
    for preset in preset_genotypes(SPACE, SHAPE, CLASSES, {"family": "factory"}):
        wider = [
            genotype
            for genotype in preset_genotypes(
                SearchSpace(max_params=4_000_000, max_macs=20_000_000), SHAPE, CLASSES, {}
            )
            if [b.kind for b in genotype.blocks] == [b.kind for b in preset.blocks]
        ]
        assert any(each.blocks[0].channels > preset.blocks[0].channels for each in wider)


@pytest.mark.parametrize("name", ["vgg3", "vgg5", "small"])
def test_the_genotype_of_a_zoo_net_has_its_widths_and_sides(name: str) -> None:
    """Pools differ (3x3 for 2x2): convolutions and the maps they get are the same."""
    built = partial(models.build, num_classes=10, in_channels=3, image_size=16, seed=0)
    options: dict[str, Any] = {"width": 8}
    genotype = genotype_of({"family": "zoo", "name": name, "options": options})
    assert genotype is not None
    zoo = built(name, **options)
    ours = built(genotype.blueprint())

    def convolutions(net: torch.nn.Module) -> list[tuple[int, ...]]:
        shapes: list[tuple[int, ...]] = []
        for module in net.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.register_forward_hook(
                    lambda module, _, out: shapes.append((module.out_channels, *out.shape[2:]))
                )
        net(torch.rand(2, *SHAPE))
        return shapes

    assert convolutions(zoo) == convolutions(ours)


def test_a_blueprint_is_its_own_genotype_and_a_strange_net_has_none() -> None:
    genotype = genotype_of(VGG)
    assert genotype is not None
    card = {"family": "blueprint", "blueprint": genotype.blueprint().to_dict()}
    again = genotype_of(card)
    assert again is not None
    assert again.key() == genotype.key()
    assert genotype_of({"family": "torchvision", "name": "resnet18"}) is None
    assert genotype_of({"family": "zoo", "name": "mobilenet", "options": {}}) is None


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_a_search_asks_for_presets_first_and_for_no_network_twice(name: str) -> None:
    presets = tuple(preset_genotypes(SPACE, SHAPE, CLASSES, VGG))
    strategy = open_strategy(
        name,
        SearchSettings(
            space=SPACE,
            input_shape=SHAPE,
            num_classes=CLASSES,
            objectives=parse_objectives("accuracy:max,macs:min"),
            population=6,
            presets=(presets[0], *presets),
        ),
    )
    candidates = strategy.ask()
    given = 1 if name == "local" else 3  # half of six
    assert [each.genotype for each in candidates[:given]] == list(presets[:given])
    assert [each.operator for each in candidates[:given]] == ["preset"] * given
    rest = {each.operator.partition("+")[0] for each in candidates[given:]}
    assert rest == ({"preset"} if name == "local" else {"sample"})
    assert len({each.genotype.key() for each in candidates}) == 6
