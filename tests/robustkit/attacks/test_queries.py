"""HopSkipJump, which sees decisions alone: where the boundary is known, and beside others."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robustkit.attacks import HopSkipJump, make, verify
from robustkit.attacks.norms import per_image
from robustkit.attacks.queries import _Search
from robustkit.errors import AttackError
from robustkit.evaluation import worst_case
from tests.robustkit.attacks.nets import batch, striped, trained


class HalfSpace(nn.Module):
    """Class 1 where w x > b: the distance to the boundary is known. No gradient passes."""

    def __init__(self, weights: Tensor, bias: float) -> None:
        super().__init__()
        self.weights, self.bias = weights, bias

    def forward(self, x: Tensor) -> Tensor:
        margin = x.flatten(1) @ self.weights - self.bias
        return torch.stack([-margin, margin], dim=1).sign()


def half_space() -> tuple[HalfSpace, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(48, generator=generator)
    images = 0.5 + 0.1 * (torch.rand(6, 3, 4, 4, generator=generator) - 0.5)
    net = HalfSpace(weights, float(images.flatten(1).mean(0) @ weights) + 0.3)
    return net, images, net(images).argmax(dim=1)


@pytest.mark.parametrize(("norm", "dual"), [("l2", 2), ("linf", 1)])
def test_it_comes_near_the_nearest_point_of_a_plane(norm: str, dual: int) -> None:
    net, images, labels = half_space()
    margin = (images.flatten(1) @ net.weights - net.bias).abs()
    nearest = margin / net.weights.norm(p=dual)
    attack = HopSkipJump(eps=1.0 if norm == "linf" else 10.0, norm=norm, steps=20, samples=100)
    made = attack(net, images, labels)
    assert bool((net(made).argmax(dim=1) != labels).all())
    verify(made, images, attack)
    found = attack.geometry.size(made - images)
    assert bool((found >= nearest - 1e-5).all())
    assert float((found / nearest).median()) < 1.25


@pytest.mark.parametrize(("norm", "dual", "within"), [("l2", 2, 2.5), ("linf", 1, 5.0)])
def test_it_goes_on_in_many_dimensions(norm: str, dual: int, within: float) -> None:
    # Were the boundary found no nearer than to 2^-12, all decisions around it would be alike.
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(3072, generator=generator)
    images = 0.5 + 0.1 * (torch.rand(4, 3, 32, 32, generator=generator) - 0.5)
    net = HalfSpace(weights, float(images.flatten(1).mean(0) @ weights) + 10)
    labels = net(images).argmax(dim=1)
    nearest = (images.flatten(1) @ weights - net.bias).abs() / weights.norm(p=dual)
    attack = HopSkipJump(eps=1.0 if norm == "linf" else 100.0, norm=norm, steps=20)
    made = attack(net, images, labels)
    assert bool((net(made).argmax(dim=1) != labels).all())
    assert float((attack.geometry.size(made - images) / nearest).median()) < within


def test_decisions_that_are_all_alike_lead_where_they_were_asked() -> None:
    net, images, labels = half_space()
    attack, seeds = HopSkipJump(norm="l2", samples=3), torch.arange(6)
    search = _Search(attack, net, images, labels, seeds)
    direction = search._direction(images, torch.full((6,), 1e-4), 1)
    expected = torch.zeros_like(images)
    for number in range(3):
        noise = torch.special.ndtri(search._noise("hopskipjump", 1, number).clamp(1e-7, 1 - 1e-7))
        expected -= noise / per_image(noise.flatten(1).norm(dim=1))
    unit = expected / per_image(expected.flatten(1).norm(dim=1))
    assert float((direction * unit).flatten(1).sum(dim=1).min()) > 0.95


def test_what_lies_outside_the_ball_is_no_success() -> None:
    net, images, labels = half_space()
    margin = (images.flatten(1) @ net.weights - net.bias).abs()
    eps = float((margin / net.weights.norm()).median())
    made = HopSkipJump(eps=eps, norm="l2", steps=5)(net, images, labels)
    still = (made == images).flatten(1).all(dim=1)
    assert bool(still.any())
    assert bool(((made - images).flatten(1).norm(dim=1) <= eps + 1e-6).all())


def test_decisions_find_less_than_gradients_on_an_honest_net() -> None:
    net, images = trained(2), striped(24, 3)
    by = {
        name: worst_case(net, images, [make(name, eps=0.1)]).survivors.float().mean()
        for name in ("pgd", "hopskipjump?steps=10")
    }
    assert by["pgd"] <= by["hopskipjump?steps=10"] + 0.05


def test_a_wrong_image_stays() -> None:
    net, (images, labels) = trained(2), batch(9)
    wrong = (net(images).argmax(dim=1) + 1) % 3
    made = HopSkipJump(eps=0.1, steps=2)(net, images, wrong)
    assert torch.allclose(made, images, atol=1e-6)
    assert labels.shape == wrong.shape


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("hopskipjump?steps=0", r"steps must be in \[1, 10000\]"),
        ("hopskipjump?norm=l1", "it works in linf and l2"),
        ("hopskipjump?targeted=true", "has no targeted form"),
    ],
)
def test_what_it_cannot_do_is_said(spec: str, message: str) -> None:
    with pytest.raises(AttackError, match=message):
        make(spec)
    assert make("hopskipjump").gradient_free
    assert not make("pgd").gradient_free
