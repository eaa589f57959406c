from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch

from robustkit.errors import ModelError
from robustkit.models import Normalise, build, rebuild
from robustkit.models.fitting import dry_run

SITE: dict[str, Any] = {"num_classes": 3, "in_channels": 1, "image_size": 8}


def test_normalise_is_per_channel() -> None:
    x = torch.rand(2, 3, 4, 5)
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    out = Normalise(mean, std)(x)
    for channel in range(3):
        torch.testing.assert_close(out[:, channel], (x[:, channel] - mean[channel]) / std[channel])


def test_the_first_layer_normalises() -> None:
    model = build("small", **SITE, mean=(0.3,), std=(0.2,))
    x = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(model(x), model.net((x - 0.3) / 0.2))


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (torch.rand(2, 3, 8, 8), r"float \(N, 1, 8, 8\) in \[0,1\], not float32 \(2, 3, 8, 8\)"),
        (torch.rand(2, 1, 9, 8), r"not float32 \(2, 1, 9, 8\)"),
        (torch.rand(1, 8, 8), r"not float32 \(1, 8, 8\)"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), "not uint8"),
    ],
)
def test_other_images_are_refused(images: torch.Tensor, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        build("small", **SITE)(images)


def test_a_seed_decides_the_weights_and_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = (build("small", **SITE, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(first(x), again(x))
    assert not torch.equal(first(x), other(x))


def test_without_a_seed_weights_come_from_the_global_generator() -> None:
    x = torch.rand(2, 1, 8, 8)
    torch.manual_seed(3)
    first, second = build("small", **SITE), build("small", **SITE)
    torch.manual_seed(3)
    again = build("small", **SITE)
    assert torch.equal(first(x), again(x))
    assert not torch.equal(first(x), second(x))


def test_rebuild_has_the_architecture_but_not_the_past() -> None:
    model = build("resnet20", **SITE, width=2, classes=("a", "b", "c"), seed=1)
    aged = replace(model.card, provenance={"epochs": 9}, parent="0" * 64)
    twin = rebuild(aged, seed=1)
    assert twin.card == model.card
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(twin.eval()(x), model.eval()(x))


def test_a_model_can_be_copied_whole() -> None:
    model = build("small", **SITE)
    twin = copy.deepcopy(model)
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(twin(x), model(x))
    assert twin.card == model.card


def test_names_and_statistics_must_fit() -> None:
    with pytest.raises(ModelError, match="3 classes need as many names, not 2"):
        build("small", **SITE, classes=("a", "b"))
    with pytest.raises(ModelError, match="mean must be 1 finite numbers"):
        build("small", **SITE, mean=(0.5, 0.5))
    with pytest.raises(ModelError, match="std must be positive"):
        build("small", **SITE, std=(0.0,))
    with pytest.raises(ModelError, match="two names or more"):
        build("small", num_classes=1, in_channels=1, image_size=8)
    with pytest.raises(ModelError, match="input_shape"):
        build("small", num_classes=2, in_channels=0, image_size=8)


def test_a_dry_run_leaves_no_trace() -> None:
    model = build("resnet20", **SITE, width=2).train()
    model.get_submodule("net.stage2").eval()
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    dry_run(model, (1, 8, 8))
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
