from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustkit.attacks import ATTACKS, make, predict
from robustkit.attacks.registry import trained_on
from robustkit.evaluation.gradient_similarity import input_gradients
from robustkit.models.state import state_preserved
from tests.robustkit.attacks.nets import batch, classifier, smooth_net, striped


class Restless(nn.Module):
    """Draws random numbers, counts its calls in a buffer of a new tensor, and may fail."""

    count: Tensor

    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.fails = fails
        self.net = smooth_net(norm=True)
        self.register_buffer("count", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        self.count = self.count + 1
        random.random()
        np.random.rand()
        torch.rand(1)
        if self.fails:
            raise ZeroDivisionError
        logits: Tensor = self.net(images)
        return logits


def mixed(model: nn.Module) -> None:
    """Submodules in different modes, a frozen parameter, and gradients on some."""
    model.train()
    list(model.modules())[-1].eval()
    for number, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(number != 1)
        parameter.grad = torch.full_like(parameter, 3.0) if number == 0 else None


def state(model: nn.Module) -> list[Any]:
    return [
        [module.training for module in model.modules()],
        [(each.requires_grad, each.grad) for each in model.parameters()],
        {name: each.clone() for name, each in model.state_dict().items()},
        [id(each) for each in model.buffers()],
        random.getstate(),
        np.random.get_state(),
        torch.get_rng_state(),
    ]


def same(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor | np.ndarray):
        return first is second or bool((first == second).all())
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_an_attack_leaves_everything_as_it_was(name: str, fails: bool) -> None:
    model, (images, labels) = Restless(fails), batch(3)
    mixed(model)
    before, kept = state(model), images.clone()
    steps = {"steps": 3} if name in ("universal", "patch") else {}
    attack = trained_on(make(name, **steps), lambda: striped(4))
    if fails:
        with pytest.raises(ZeroDivisionError):
            attack(model, images, labels)
    else:
        attack(model, images, labels)
    assert same(before, state(model))
    assert torch.equal(images, kept)
    assert not images.requires_grad


@pytest.mark.parametrize(
    "use",
    [
        lambda model: predict(model, striped(4).images),
        lambda model: input_gradients(model, striped(4)),
    ],
)
def test_so_do_predictions_and_gradients(use: Callable[[nn.Module], Tensor]) -> None:
    model = Restless()
    mixed(model)
    before = state(model)
    use(model)
    assert same(before, state(model))


def test_inside_the_model_is_in_evaluation_mode_and_frozen() -> None:
    model = classifier("resnet20").train()
    with state_preserved(model):
        assert not any(module.training for module in model.modules())
        assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model.training


def test_a_given_generator_alone_decides_the_random_start() -> None:
    images, labels = batch(3)
    attack, net = make("pgd", steps=1), smooth_net()
    first = attack(net, images, labels, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(99)
    again = attack(net, images, labels, generator=torch.Generator().manual_seed(1))
    other = attack(net, images, labels, generator=torch.Generator().manual_seed(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
