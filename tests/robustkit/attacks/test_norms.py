from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from robustkit.attacks import NORMS

SHAPE = (2, 1, 3, 3)
perturbations = arrays(np.float32, SHAPE, elements=st.floats(-3, 3, width=32)).map(torch.from_numpy)
radii = st.floats(0.0, 2.0)
BALLS = sorted(set(NORMS) - {"l0"})  # which is no ball: test_universal.py
norms = st.sampled_from(BALLS)


def slow_size(delta: Tensor, norm: str) -> float:
    values = [abs(float(each)) for each in delta.flatten()]
    if norm == "l1":
        return sum(values)
    return max(values) if norm == "linf" else math.sqrt(sum(each**2 for each in values))


@given(perturbations, radii, norms)
def test_projections_end_in_the_ball_and_do_not_move_what_is_inside(
    delta: Tensor, eps: float, norm: str
) -> None:
    projected = NORMS[norm].project(delta, eps)
    for before, after in zip(delta, projected, strict=True):
        assert slow_size(after, norm) <= eps + 1e-5
        if slow_size(before, norm) <= eps:
            assert torch.allclose(before, after, rtol=1e-6)
    assert torch.allclose(NORMS[norm].project(projected, eps), projected, atol=1e-6)


@given(perturbations, perturbations, st.floats(0.01, 2.0), norms)
def test_no_point_of_the_ball_is_nearer_than_the_projection(
    delta: Tensor, other: Tensor, eps: float, norm: str
) -> None:
    projected = NORMS[norm].project(delta, eps)
    for row, nearest, guess in zip(delta, projected, other, strict=True):
        inside = guess * min(1.0, eps / max(slow_size(guess, norm), 1e-9))
        assert slow_size(row - nearest, "l2") <= slow_size(row - inside, "l2") + 1e-4


@given(perturbations, norms)
def test_sizes_are_the_definitions(delta: Tensor, norm: str) -> None:
    expected = [slow_size(row, norm) for row in delta]
    assert NORMS[norm].size(delta).tolist() == pytest.approx(expected, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("scale", [1.0, 1e-13, 1e-25, 1e-36])
@pytest.mark.parametrize("norm", BALLS)
def test_a_step_is_as_long_for_a_confident_net(norm: str, scale: float) -> None:
    gradient = torch.randn(4, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    step = NORMS[norm].steepest(gradient * scale)
    assert torch.allclose(NORMS[norm].size(step), torch.ones(4), atol=1e-5)
    assert torch.allclose(step, NORMS[norm].steepest(gradient), atol=1e-5)


@pytest.mark.parametrize("norm", BALLS)
def test_no_gradient_no_step(norm: str) -> None:
    assert not NORMS[norm].steepest(torch.zeros(SHAPE)).any()


@pytest.mark.parametrize("norm", BALLS)
@pytest.mark.parametrize("shape", [(1, 3, 3), (3, 5, 5), (1, 8, 8)])
def test_random_starts_do_not_depend_on_the_batch_size(
    norm: str, shape: tuple[int, int, int]
) -> None:
    whole = NORMS[norm].random((7, *shape), 0.3, torch.Generator().manual_seed(4))
    generator = torch.Generator().manual_seed(4)
    parts = [NORMS[norm].random((count, *shape), 0.3, generator) for count in (1, 4, 2)]
    assert torch.equal(torch.cat(parts), whole)


def test_l2_starts_are_uniform_in_the_ball() -> None:
    points = NORMS["l2"].random((4000, 1, 1, 2), 1.0, torch.Generator().manual_seed(0)).view(-1, 2)
    # In the plane a uniform point lies within r with probability r², in each quadrant with 1/4.
    for radius in (0.3, 0.6, 0.9):
        assert float((points.norm(dim=1) <= radius).double().mean()) == pytest.approx(
            radius**2, abs=0.03
        )
    quadrant = (points > 0).all(dim=1).double().mean()
    assert float(quadrant) == pytest.approx(0.25, abs=0.03)


def test_linf_starts_are_uniform_in_the_ball() -> None:
    points = NORMS["linf"].random((4000, 1, 1, 1), 0.5, torch.Generator().manual_seed(0)).flatten()
    expected = torch.linspace(-0.5, 0.5, 4000)
    assert torch.allclose(points.sort().values, expected, atol=0.03)
