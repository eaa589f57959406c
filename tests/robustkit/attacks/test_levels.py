"""Rounded adversarials are whole levels inside the ball, as near to the exact ones as it allows."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robustkit.attacks import FGSM, PGD, Store, craft, predict, violations
from robustkit.attacks.crafting import rounded
from robustkit.data import to_unit
from robustkit.errors import AttackError
from robustkit.evaluation.transferability import transfer_matrix
from tests.robustkit.attacks.nets import classifier, smooth_net, striped

IMAGES = striped(9)


@given(
    norm=st.sampled_from(["linf", "l2"]),
    levels=st.floats(0, 40),
    seed=st.integers(0, 2**32),
    edge=st.booleans(),
)
def test_whole_levels_stay_in_the_ball(norm: str, levels: float, seed: int, edge: bool) -> None:
    attack = FGSM(eps=min(1.0, levels / 255), norm=norm)
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (20, 1, 4, 4), generator=generator).to(torch.uint8)
    clean = to_unit(images)
    noise = attack.geometry.random(tuple(images.shape), attack.eps, generator)
    if edge:  # the far side of the ball, where rounding has to turn back
        noise = attack.geometry.project(1e6 * noise, attack.eps)
    exact = (clean + noise).clamp(0, 1)
    made = rounded(exact, images, attack)
    moved, wanted = made.double() - images, exact.double() * 255 - images
    size = moved.flatten(1).abs().amax(1) if norm == "linf" else moved.flatten(1).norm(dim=1)
    assert float(size.max()) <= attack.eps * 255 + 1e-6 * 255
    assert not bool(violations(to_unit(made), clean, attack).any())
    # Each pixel is at one of the two levels beside it.
    assert float((moved - wanted).abs().max()) < 1 + 1e-3
    # Where the nearest levels are inside already, they are taken.
    near = wanted.round()
    inside = (
        near.flatten(1).abs().amax(1) if norm == "linf" else near.flatten(1).norm(dim=1)
    ) <= attack.eps * 255
    assert torch.equal(moved[inside], near[inside])


def test_in_l2_no_more_pixels_turn_back_than_need_be() -> None:
    wanted = torch.tensor([0.6, 1.7, -2.6, 0.2, 0.9])
    images = torch.full((1, 1, 1, 5), 100, dtype=torch.uint8)
    exact = (100 + wanted.view(1, 1, 1, 5)) / 255
    attack = PGD(eps=float(wanted.norm()) / 255, norm="l2")
    moved = (rounded(exact, images, attack).double() - 100).flatten().tolist()
    # Nearest is [1, 2, -3, 0, 1]: 15 > 10.9. 0.6 goes back (14), then 2.6 (9).
    assert moved == [0, 2, -2, 0, 1]
    assert math.dist(moved, [0] * 5) ** 2 <= float(wanted.square().sum())


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_rounded_sets_are_kept_and_scored_as_levels(norm: str) -> None:
    net, attack = smooth_net().eval(), PGD(eps=0.21 if norm == "linf" else 1.0, norm=norm)
    store = Store(None)
    made, exact = (craft(net, IMAGES, attack, store=store, round=each) for each in (True, False))
    assert made.images.dtype == torch.uint8
    assert made.key != exact.key
    assert "round" not in exact.origin
    assert not bool(violations(to_unit(made.images), IMAGES.floats(), attack).any())
    assert float((to_unit(made.images) - exact.images).abs().max()) < 1 / 255 + 1e-6
    fooled = predict(net, made.images).argmax(1) != IMAGES.labels
    assert torch.equal(made.fooled, fooled)
    other = classifier()
    matrix = transfer_matrix({"a": net}, {"b": other}, IMAGES, attack, round=True)
    misled = predict(other, made.images).argmax(1) != IMAGES.labels
    assert matrix.target_fooled["a", "b"].tolist() == misled.tolist()
    assert matrix.keys["a"] == made.key


def test_images_that_are_no_levels_are_not_rounded() -> None:
    images = striped(3)
    object.__setattr__(images, "images", images.floats())
    with pytest.raises(AttackError, match=r"round: these images are float32, .* or do not round"):
        craft(smooth_net(), images, FGSM(), round=True)
