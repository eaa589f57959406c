"""Impacts are their definitions, whatever the net, the batch and the mode."""

from __future__ import annotations

import copy
import random
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.models import build
from robustkit.repair import impacts, repairable
from tests.robustkit.attacks.test_state_preserved import Restless, mixed, same, state
from tests.robustkit.repair.impacts_slowly import (
    TiedNet,
    check,
    close,
    inputs_of,
    slow_backward,
)
from tests.robustkit.repair.nets import CLASSES, SIDE, mixed_net, noise, parameter, seeded, wrap


@pytest.mark.parametrize("seed", [0, 1])
def test_impacts_are_their_definitions(seed: int) -> None:
    check(mixed_net(seed), noise(6, seed=seed))


CONVS: dict[str, dict[str, Any]] = {
    "plain": {},
    "stride": {"stride": 2},
    "uneven stride": {"stride": (1, 3)},
    "padding": {"padding": 2},
    "uneven padding": {"padding": (0, 1)},
    "dilation": {"dilation": 2},
    "groups": {"groups": 2},
    "depthwise": {"groups": 4, "padding": 1},
    "circular": {"padding": (2, 1), "padding_mode": "circular"},
    "reflect": {"padding": (1, 2), "padding_mode": "reflect"},
    "replicate": {"padding": 2, "padding_mode": "replicate"},
    "same": {"padding": "same", "dilation": (1, 2)},
    "same circular": {"padding": "same", "padding_mode": "circular"},
    "valid": {"padding": "valid"},
    "oblong": {"kernel_size": (2, 3), "padding": (0, 1), "stride": (2, 1)},
    "even kernel": {"kernel_size": 2, "padding": "same"},
    "all": {"stride": 2, "padding": 2, "dilation": 2, "groups": 2, "padding_mode": "circular"},
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("settings", CONVS.values(), ids=CONVS)
def test_the_impacts_of_every_kind_of_convolution(settings: dict[str, Any]) -> None:
    net = seeded(
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 2),
            nn.Tanh(),
            nn.Conv2d(4, 4, **{"kernel_size": 3, **settings}),
            nn.Tanh(),
            nn.Flatten(),
            nn.LazyLinear(CLASSES),
        )
    )
    model = wrap(net)
    model(torch.zeros(1, 1, SIDE, SIDE))
    check(model, noise(4))


def test_padding_counts_as_input_zero() -> None:
    """A kernel of one weight over white pixels: the share of its positions that see the image."""
    conv = nn.Conv2d(1, 1, 1, padding=1, bias=False)
    nn.init.constant_(conv.weight, -3.0)
    model = wrap(nn.Sequential(conv, nn.Flatten(), nn.Linear((SIDE + 2) ** 2, CLASSES)))
    white = noise(5)
    white.images.fill_(255)
    seen = (1 - 0.45) / 0.3  # what normalisation makes of white
    made = impacts(model, white, repairable(model, ("conv",)))
    expected = 3 * seen * SIDE**2 / (SIDE + 2) ** 2
    assert float(made.forward["0"]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("count", [250, 251, 517])
def test_a_set_beyond_one_batch_gives_the_same(count: int) -> None:
    net = seeded(
        lambda: nn.Sequential(
            nn.Conv2d(1, 2, 2, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(18, CLASSES)
        )
    )
    check(wrap(net), noise(count))


def test_the_impacts_of_a_set_are_no_means_of_magnitudes() -> None:
    """Gradients of opposite sign cancel: it is the set's loss that is differentiated."""
    model, images = mixed_net(), noise(6)
    layers = repairable(model)
    together = impacts(model, images, layers).backward["7"]
    alone = [
        impacts(model, images.subset(torch.tensor([i])), layers).backward["7"] for i in range(6)
    ]
    assert bool((together <= torch.stack(alone).mean(dim=0) + 1e-6).all())
    assert bool((together < 0.9 * torch.stack(alone).mean(dim=0)).any())


@pytest.mark.parametrize("name", ["resnet20", "vgg3"])
def test_batch_norm_is_in_evaluation_mode(name: str) -> None:
    model = build(name, num_classes=4, in_channels=1, image_size=8, seed=0, width=2)
    images = noise(6, side=8)
    model.train()(images.floats())
    evaluated = copy.deepcopy(model).eval()
    expected = impacts(evaluated, images, repairable(evaluated, ("both",)))
    layers = repairable(model, ("both",))
    made = impacts(model, images, layers)
    for layer in ("head.1", next(iter(layers))):
        close(made.backward[layer], slow_backward(model, images, layer))
    assert all(torch.equal(made.backward[each], expected.backward[each]) for each in layers)
    assert all(torch.equal(made.forward[each], expected.forward[each]) for each in layers)


def test_a_layer_that_is_never_called_has_no_impact() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(SIDE**2, CLASSES), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.used(x.flatten(1))
            return y

    model = wrap(seeded(Idle))
    made = impacts(model, noise(3), repairable(model))
    assert not made.backward["idle"].any()
    assert not made.forward["idle"].any()
    assert made.forward["idle"].shape == (3, 3)
    assert bool(made.forward["used"].any())


def test_a_layer_that_is_called_twice_is_counted_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.again = nn.Linear(SIDE**2, 5), nn.Linear(5, 5)
            self.last = nn.Linear(5, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.last(F.relu(self.again(F.relu(self.again(self.first(x.flatten(1)))))))
            return y

    model, images = wrap(seeded(Twice)), noise(5)
    made = impacts(model, images, repairable(model))
    close(made.backward["again"], slow_backward(model, images, "again"))
    _, seen = inputs_of(model, images, "again")
    weight = parameter(model, "again").detach().double()
    expected = torch.stack(seen).abs().sum(dim=0) / 5 * weight.abs()
    close(made.forward["again"], expected)


def test_tied_weights_have_impacts() -> None:
    model, images = wrap(seeded(TiedNet)), noise(5)
    made = impacts(model, images, repairable(model))
    close(made.backward["first"], slow_backward(model, images, "first"))


@pytest.mark.parametrize("seed", [0, 1])
def test_everything_is_left_as_it_was(seed: int) -> None:
    model, images = wrap(Restless(), classes=3, side=8), noise(5, classes=3, side=8)
    mixed(model)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    layers = repairable(model, ("both",))
    before, kept = state(model), images.images.clone()
    first = impacts(model, images, layers)
    assert same(before, state(model))
    assert torch.equal(images.images, kept)
    assert not [hook for layer in layers.values() for hook in layer._forward_pre_hooks]
    second = impacts(model, images, layers)
    assert all(torch.equal(first.backward[name], second.backward[name]) for name in layers)
    assert all(torch.equal(first.forward[name], second.forward[name]) for name in layers)


def test_everything_is_left_as_it_was_after_an_error() -> None:
    model, images = wrap(Restless(fails=True), classes=3, side=8), noise(5, classes=3, side=8)
    mixed(model)
    layers = repairable(model, ("both",))
    before = state(model)
    with pytest.raises(ZeroDivisionError):
        impacts(model, images, layers)
    assert same(before, state(model))
    assert not [hook for layer in layers.values() for hook in layer._forward_pre_hooks]
