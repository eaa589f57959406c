"""Auto-PGD against a loop over single images, and the l1 ball against the definition."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.attacks import APGD, LOSSES, PGD, make, verify
from robustkit.attacks.apgd import checkpoints
from robustkit.attacks.norms import NORMS, l1_project
from tests.robustkit.attacks.nets import batch, smooth_net, trained


def gradient_of(net: nn.Module, x: Tensor, y: Tensor) -> tuple[float, Tensor]:
    leaf = x.clone().requires_grad_(True)
    loss = F.cross_entropy(net(leaf[None]), y[None])
    return float(loss.detach()), torch.autograd.grad(loss, leaf)[0]


def boxed(x: Tensor, moved: Tensor, eps: float, norm: str) -> Tensor:
    delta = moved - x
    if norm == "linf":
        delta = delta.clamp(-eps, eps)
    else:
        delta = delta * min(1.0, eps / max(float(delta.norm()), 1e-30))
    return (x + delta).clamp(0, 1)


def slow(net: nn.Module, x: Tensor, y: Tensor, eps: float, norm: str, steps: int) -> Tensor:
    """Algorithm 1 of Croce and Hein 2020, for one image from itself."""

    def unit(g: Tensor) -> Tensor:
        return g.sign() if norm == "linf" else g / g.norm()

    eta, here = 2 * eps, x
    value, gradient = gradient_of(net, here, y)
    best, best_value, best_gradient = here, value, gradient
    before = here
    kept_eta, kept_value, improved, last = eta, best_value, 0, 0
    for step in range(steps):
        z = boxed(x, here + eta * unit(gradient), eps, norm)
        moved = z if step == 0 else boxed(
            x, here + 0.75 * (z - here) + 0.25 * (here - before), eps, norm
        )  # fmt: skip
        before, here = here, moved
        old, (value, gradient) = value, gradient_of(net, here, y)
        improved += value > old
        if value > best_value:
            best, best_value, best_gradient = here, value, gradient
        if step + 1 in set(checkpoints(steps)):
            failed = improved < 0.75 * (step + 1 - last)
            stuck = eta == kept_eta and best_value <= kept_value
            kept_eta, kept_value, improved, last = eta, best_value, 0, step + 1
            if failed or stuck:
                eta, here, gradient, value = eta / 2, best, best_gradient, best_value
    return best


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_ascent_is_that_of_the_paper(norm: str) -> None:
    net, (images, labels) = smooth_net().double().eval(), batch(4)
    images, eps = images.double(), 0.1 if norm == "linf" else 0.8
    made = APGD(eps=eps, norm=norm, steps=20, random_start=False)(net, images, labels)
    for row, (x, y) in enumerate(zip(images, labels, strict=True)):
        torch.testing.assert_close(made[row], slow(net, x, y, eps, norm, 20), atol=1e-9, rtol=0)


def slow_l1(net: nn.Module, x: Tensor, y: Tensor, eps: float, steps: int) -> Tensor:
    """Algorithm 2 of Croce and Hein 2021 in three balls, for one image from itself."""
    size, start, known = x.numel(), x, False

    def count(point: Tensor) -> int:
        return int((point != x).sum())

    for radius, number in ((3 * eps, 9), (2 * eps, 9), (eps, steps - 18)):
        here = x + l1_project((start - x)[None], radius, -x[None], 1 - x[None])[0]
        share, old = (count(here) / size / 1.5, count(here)) if known else (0.2, size)
        eta, (value, gradient) = radius, gradient_of(net, here, y)
        best, best_value, best_gradient = here, value, gradient
        every = max(int(0.04 * number), 1)
        for step in range(number):
            largest = gradient.abs().flatten().topk(max(round(share * size), 1)).indices
            signs = torch.zeros_like(gradient).flatten()
            signs[largest] = gradient.flatten()[largest].sign()
            moved = here + eta * signs.view_as(x) / signs.abs().sum()
            here = x + l1_project((moved - x)[None], radius, -x[None], 1 - x[None])[0]
            value, gradient = gradient_of(net, here, y)
            if value > best_value:
                best, best_value, best_gradient = here, value, gradient
            if (step + 1) % every == 0:
                now = count(best)
                share = now / size / 1.5
                if now < 0.95 * old:
                    eta, here, gradient = radius, best, best_gradient
                else:
                    eta = max(eta / 1.5, radius / 10)
                old = now
        start, known = best, True
    return start


def test_in_l1_it_follows_how_sparse_the_best_is() -> None:
    net, (images, labels) = smooth_net().double().eval(), batch(4)
    images = images.double()
    made = APGD(eps=2.0, norm="l1", steps=30, random_start=False)(net, images, labels)
    for row, (x, y) in enumerate(zip(images, labels, strict=True)):
        torch.testing.assert_close(made[row], slow_l1(net, x, y, 2.0, 30), atol=1e-9, rtol=0)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.06), ("l2", 0.5), ("l1", 2.5)])
def test_it_ascends_further_than_pgd(norm: str, eps: float) -> None:
    net, (images, labels) = trained(2), batch(48, seed=3)
    losses = {}
    for name in ("apgd", "pgd"):
        attack = make(f"{name}?steps=40", eps=eps, norm=norm)
        made = attack(net, images, labels)
        verify(made, images, attack)
        losses[name] = float(LOSSES["ce"](net(made), labels).mean())
    assert losses["apgd"] > losses["pgd"] - 1e-3
    if norm == "l1":
        assert losses["apgd"] > 1.02 * losses["pgd"]


def test_an_image_that_has_fallen_is_left() -> None:
    net, (images, labels) = trained(2), batch(48, seed=3)
    labels = net(images).argmax(dim=1)
    attack = APGD(eps=0.1, steps=20)
    made = attack(net, images, labels, stop_when_fooled=True)
    whole = attack(net, images, labels)
    fallen = net(made).argmax(dim=1) != labels
    assert bool(fallen.any())
    assert not torch.equal(made[fallen], whole[fallen])
    assert torch.allclose(made[~fallen], whole[~fallen], atol=1e-5)
    assert bool((net(whole).argmax(dim=1) != labels)[fallen].float().mean() > 0.9)


def test_a_target_is_reached() -> None:
    net, (images, labels) = trained(2), batch(24, seed=3)
    targets = (labels + 1) % 3
    made = APGD(eps=0.3, steps=20, targeted=True)(net, images, targets)
    assert float((net(made).argmax(dim=1) == targets).float().mean()) > 0.9


def test_checkpoints_are_those_of_the_paper() -> None:
    place, shares = [0.0, 0.22], []
    while place[-1] < 1:
        shares.append(place[-1])
        place.append(place[-1] + max(place[-1] - place[-2] - 0.03, 0.06))
    assert list(checkpoints(100)) == [math.ceil(round(100 * each, 6)) for each in shares]


def test_the_projection_onto_the_box_too_is_the_nearest_point() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(6, 1, 2, 2, generator=generator).double()
    delta = 3 * (torch.rand(6, 1, 2, 2, generator=generator).double() - 0.5)
    found = l1_project(delta, 0.8, -images, 1 - images)
    assert bool((found.abs().flatten(1).sum(1) <= 0.8 + 1e-9).all())
    assert bool(((images + found >= -1e-12) & (images + found <= 1 + 1e-12)).all())
    others = 2 * (torch.rand(4000, 1, 2, 2, generator=generator).double() - 0.5)
    for row in range(6):
        near = torch.cat([others, found[row] + 0.05 * others])
        inside = near.abs().flatten(1).sum(1) <= 0.8
        inside &= ((images[row] + near >= 0) & (images[row] + near <= 1)).flatten(1).all(1)
        distance = (near[inside] - delta[row]).flatten(1).norm(dim=1)
        assert float(distance.min()) >= float((found[row] - delta[row]).norm()) - 1e-9


def test_l1_starts_are_uniform_in_the_ball() -> None:
    points = NORMS["l1"].random((4000, 1, 1, 2), 1.0, torch.Generator().manual_seed(0)).view(-1, 2)
    for radius in (0.3, 0.6, 0.9):  # in the plane a point lies within r with probability r^2
        share = float((points.abs().sum(1) <= radius).double().mean())
        assert share == pytest.approx(radius**2, abs=0.03)
    assert float((points > 0).all(1).double().mean()) == pytest.approx(0.25, abs=0.03)


def test_an_l1_step_moves_few_pixels() -> None:
    gradient = torch.randn(2, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    step = NORMS["l1"].steepest(gradient)
    for row in range(2):
        largest = gradient[row].flatten().abs().topk(12).indices
        expected = torch.zeros(1200).index_copy(
            0, largest, gradient[row].flatten()[largest].sign() / 12
        )
        torch.testing.assert_close(step[row].flatten(), expected)
    with pytest.raises(Exception, match="steps must be in"):
        APGD(steps=0)
    assert PGD(norm="l1", eps=3.0).eps == 3.0
