"""One perturbation for many pictures, and the share of pixels as a radius."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from robustkit.attacks import NORMS, Patch, Universal, craft, make, verify
from robustkit.errors import AttackError
from tests.robustkit.attacks.nets import batch, striped, trained

EXAMPLES = striped(60, seed=5)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.2), ("l2", 1.5), ("l1", 6.0)])
def test_the_same_noise_misleads_pictures_it_was_not_trained_on(norm: str, eps: float) -> None:
    net, images = trained(2), striped(48, seed=3)
    attack = make("universal?steps=60", eps=eps, norm=norm).trained_on(EXAMPLES)
    made = craft(net, images, attack)
    floats = images.floats()
    inner = ((floats > eps) & (floats < 1 - eps)).all(dim=0) if norm == "linf" else None
    if inner is not None and bool(inner.any()):
        delta = (made.images - floats)[:, inner]
        assert float(delta.std(dim=0).max()) < 1e-6
    noise = craft(net, images, make("pgd?steps=1&alpha=0.0", eps=eps, norm=norm))
    assert float(made.fooled.float().mean()) > float(noise.fooled.float().mean()) + 0.05


def test_a_patch_is_the_same_square_somewhere() -> None:
    net, (images, labels) = trained(2), batch(40, seed=3)
    attack = make("patch?steps=60", eps=0.25, norm="l0").trained_on(EXAMPLES)
    made = attack(net, images, labels, generator=torch.Generator().manual_seed(1))
    verify(made, images, attack)
    assert isinstance(attack, Patch)
    side = attack.side(8, 8)
    assert side == 4
    patch = attack.learnt(net.eval(), (1, 8, 8), images)
    places = set()
    for row in range(40):
        changed = (made[row] != images[row]).any(dim=0).nonzero()
        top, left = (int(each) for each in changed.min(dim=0).values)
        found = [
            (y, x)
            for y in range(max(0, top - 3), min(5, top + 1))
            for x in range(max(0, left - 3), min(5, left + 1))
            if torch.equal(made[row, :, y : y + side, x : x + side], patch)
        ]
        assert found
        places.add(found[0])
    assert len(places) > 10
    fooled = net(made).argmax(dim=1) != labels
    blank = images.clone()
    for row in range(40):  # a grey square at the same places
        where = made[row] != images[row]
        blank[row][where] = 0.5
    assert float(fooled.float().mean()) > float((net(blank).argmax(1) != labels).float().mean())


def test_what_was_trained_is_trained_once_for_the_same_weights() -> None:
    net, (images, labels) = trained(2), batch(6)
    attack = Universal(eps=0.2, steps=5).trained_on(EXAMPLES)
    first = attack(net, images, labels)
    assert torch.equal(first[:2], attack(net, images[:2], labels[:2]))
    other = Universal(eps=0.2, steps=6).trained_on(EXAMPLES)
    assert not torch.equal(other(net, images, labels), first)
    assert attack.to_dict()["examples"] == EXAMPLES.digest()
    assert attack.to_dict() != Universal(eps=0.2, steps=5).trained_on(striped(60)).to_dict()


def slow_share(delta: Tensor) -> float:
    rows, columns = delta.shape[1:]
    changed = sum(
        bool((delta[:, row, column] != 0).any()) for row in range(rows) for column in range(columns)
    )
    return changed / (rows * columns)


def test_the_share_of_pixels_is_a_radius() -> None:
    norm, generator = NORMS["l0"], torch.Generator().manual_seed(0)
    delta = torch.randn(5, 3, 6, 4, generator=generator)
    for eps in (0.0, 0.1, 0.5, 1.0):
        kept = norm.project(delta, eps)
        for row in range(5):
            assert slow_share(kept[row]) <= eps
            strength = delta[row].square().sum(0).flatten()
            chosen = (kept[row] != 0).any(0).flatten()
            assert int(chosen.sum()) == int(eps * 24 + 1e-6)
            if 0 < eps < 1:
                assert strength[chosen].min() >= strength[~chosen].max()
        assert torch.equal(norm.project(kept, eps), kept)
    assert norm.size(norm.project(delta, 0.5)).tolist() == pytest.approx([0.5] * 5)
    noise = norm.random((4, 3, 6, 4), 0.25, torch.Generator().manual_seed(1))
    assert norm.size(noise).tolist() == [0.25] * 4
    parts = [norm.random((n, 3, 6, 4), 0.25, g) for g in [torch.Generator().manual_seed(1)]
             for n in (1, 3)]  # fmt: skip
    assert torch.equal(torch.cat(parts), noise)


def test_gradient_attacks_change_few_pixels_too() -> None:
    net, (images, labels) = trained(2), batch(24, seed=3)
    attack = make("pgd?alpha=0.2", eps=0.1, norm="l0")
    made = attack(net, images, labels)
    verify(made, images, attack)
    assert max(slow_share(row) for row in made - images) <= 0.1
    before = float((net(images).argmax(1) != labels).float().mean())
    assert float((net(made).argmax(1) != labels).float().mean()) > before


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("universal", "universal trains on images: give them with `trained_on`"),
        ("patch?eps=0.0001", "a share of 0.0001 is no square in images of 8x8"),
    ],
)
def test_what_is_missing_is_said(spec: str, message: str) -> None:
    attack = make(spec)
    if "0.0001" in spec:
        attack = attack.trained_on(EXAMPLES)
    with pytest.raises(AttackError, match=message):
        attack(trained(2), *batch(3))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("universal?norm=l0", "for l0 there is 'patch'"),
        ("universal?targeted=true", "has no targeted form"),
        ("patch?norm=l2", "its radius is a share of the picture: norm l0"),
        ("patch?lr=0.0", r"lr must be in \(0,1\]"),
        ("patch?eps=1.5", r"eps must be in \[0, 1\]"),
    ],
)
def test_what_cannot_be_is_said(spec: str, message: str) -> None:
    with pytest.raises(AttackError, match=message):
        make(spec)
