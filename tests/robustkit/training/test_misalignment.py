from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from robustkit.attacks import LOSSES, loss_gradient
from robustkit.errors import ConfigError
from robustkit.evaluation.gradient_similarity import alignment
from robustkit.training import PHI, misalignment
from robustkit.training.misalignment import differentiable_gradient
from robustkit.training.references import unit_rows
from tests.robustkit.attacks.nets import batch, smooth_net
from tests.robustkit.training.oracle import slow_penalty


def references(count: int) -> list[nn.Module]:
    return [smooth_net(seed=seed).double().eval() for seed in range(10, 10 + count)]


def directions(nets: list[nn.Module], images: Tensor, labels: Tensor) -> Tensor:
    return torch.stack([unit_rows(loss_gradient(net, images, labels)[0])[0] for net in nets])


def gradient_of(net: nn.Module, images: Tensor, labels: Tensor, loss: str = "ce") -> Tensor:
    leaf = images.clone().requires_grad_(True)
    return differentiable_gradient(net(leaf), leaf, labels, loss)


@pytest.mark.parametrize("phi", sorted(PHI))
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("masked", [(), (1,), (0, 2, 4)])
def test_the_penalty_is_its_definition(phi: str, count: int, masked: tuple[int, ...]) -> None:
    net, nets = smooth_net().double(), references(count)
    images, labels = batch(5)
    images = images.double()
    usable = torch.ones(count, 5, dtype=torch.bool)
    for row in masked:  # one reference without a direction is enough
        usable[row % count, row] = False
    made = misalignment(
        gradient_of(net, images, labels), directions(nets, images, labels), usable, phi
    )
    expected = slow_penalty(net, nets, images, labels, phi, masked)
    assert float(made.penalty.detach()) == pytest.approx(expected, abs=1e-6)
    assert (made.masked, made.rows) == (len(masked), 5)


@pytest.mark.parametrize("phi", sorted(PHI))
def test_half_precision_directions_cost_three_digits_at_most(phi: str) -> None:
    net, nets = smooth_net().double(), references(2)
    images, labels = batch(5)
    images = images.double()
    usable = torch.ones(2, 5, dtype=torch.bool)
    half = directions(nets, images, labels).half()
    made = misalignment(gradient_of(net, images, labels).float(), half, usable, phi)
    expected = slow_penalty(net, nets, images, labels, phi)
    assert float(made.penalty.detach()) == pytest.approx(expected, abs=1e-3)


def test_a_row_whose_own_gradient_vanishes_is_masked() -> None:
    gradient = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    gradient[1] = 0.0
    gradient.requires_grad_(True)
    target = unit_rows(torch.ones(3, 1, 4, 4))[0][None]
    made = misalignment(gradient, target, torch.ones(1, 3, dtype=torch.bool))
    alone = misalignment(gradient[[0, 2]], target[:, :2], torch.ones(1, 2, dtype=torch.bool))
    assert made.masked == 1
    assert torch.equal(made.penalty, alone.penalty)
    (slope,) = torch.autograd.grad(made.penalty, gradient)
    assert bool(slope.isfinite().all())
    assert not slope[1].any()


@pytest.mark.parametrize("phi", sorted(PHI))
def test_with_every_row_masked_the_penalty_is_zero_and_can_be_descended(phi: str) -> None:
    net, (images, labels) = smooth_net(), batch(4)
    target = torch.zeros(1, *images.shape)
    made = misalignment(
        gradient_of(net, images, labels), target, torch.zeros(1, 4, dtype=torch.bool), phi
    )
    assert float(made.penalty.detach()) == 0.0
    assert made.masked == 4
    for slope in torch.autograd.grad(made.penalty, list(net.parameters()), allow_unused=True):
        assert slope is None or not slope.any()


@pytest.mark.parametrize("scale", [1e-8, 1e-17])
def test_the_penalty_does_not_see_the_gradients_length(scale: float) -> None:
    gradient = torch.randn(4, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    target = unit_rows(gradient.flip(0) + gradient)[0][None]
    usable = torch.ones(1, 4, dtype=torch.bool)
    plain = misalignment(gradient, target, usable).penalty
    assert float(misalignment(gradient * scale, target, usable).penalty) == pytest.approx(
        float(plain), rel=1e-4
    )


@pytest.mark.parametrize("loss", sorted(LOSSES))
@pytest.mark.parametrize("phi", sorted(PHI))
def test_double_backpropagation_is_the_finite_difference(phi: str, loss: str) -> None:
    # Six references, so that some cosines are positive, which relu alone looks at.
    net, nets = smooth_net().double(), references(6)
    images, labels = batch(5)
    images = images.double()
    # dlr is constant where the label's logit is the least of three: no direction to difference.
    known = gradient_of(net, images, labels, loss).detach().flatten(1).norm(dim=1) > 0
    images, labels = images[known], labels[known]
    target = directions(nets, images, labels)
    usable = torch.ones(6, len(images), dtype=torch.bool)

    def cosines() -> Tensor:
        # `misalignment` computes in float32; the same formula in float64 can be differenced.
        flat = gradient_of(net, images, labels, loss).flatten(1)
        dots = torch.einsum("nd,jnd->jn", flat, target.flatten(2))
        return PHI[phi](dots / flat.norm(dim=1)).mean()

    generator = torch.Generator().manual_seed(3)
    parameters = list(net.parameters())
    ways = [
        torch.randn(each.shape, generator=generator, dtype=torch.float64) for each in parameters
    ]
    penalty = misalignment(gradient_of(net, images, labels, loss), target, usable, phi).penalty
    slopes = torch.autograd.grad(penalty, parameters, allow_unused=True)
    along = sum(float((s * w).sum()) for s, w in zip(slopes, ways, strict=True) if s is not None)
    ends = []
    size = 1e-7  # no cosine changes its sign within: abs and relu have a kink there
    for step in (size, -size):
        with torch.no_grad():
            for each, way in zip(parameters, ways, strict=True):
                each.add_(way, alpha=step)
        ends.append(float(cosines().detach()))
        with torch.no_grad():
            for each, way in zip(parameters, ways, strict=True):
                each.sub_(way, alpha=step)
    assert along == pytest.approx((ends[0] - ends[1]) / (2 * size), rel=1e-4, abs=1e-6)
    assert abs(along) > 1e-4


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_the_trained_nets_gradient_is_the_attacks(loss: str) -> None:
    net, (images, labels) = smooth_net(), batch(5)
    made = gradient_of(net, images, labels, loss).detach()
    assert torch.allclose(made, loss_gradient(net, images, labels, loss)[0], atol=1e-7)


def test_a_confident_nets_penalty_is_about_its_gradient_not_rounding() -> None:
    net = copy.deepcopy(smooth_net())
    head = net[-1]
    assert isinstance(head, nn.Linear)
    with torch.no_grad():
        head.weight *= 300.0
    images, _ = batch(12)
    labels = net(images).argmax(dim=1)
    made = gradient_of(net, images, labels).detach()
    leaf = images.double().requires_grad_(True)
    logits = net.double()(leaf)
    others = logits.softmax(1).scatter(1, labels[:, None], 0.0)
    assert float(others.detach().sum(1).min()) < 1e-8  # float32 cannot tell 1 - p_y from 0
    cotangent = others.scatter(1, labels[:, None], -others.sum(1, keepdim=True)).detach()
    (truth,) = torch.autograd.grad(logits, leaf, cotangent)
    assert float(alignment(made, truth).cosine.min()) > 0.9999


def test_phi_of_known_cosines() -> None:
    cosines = torch.tensor([[0.5, -1.0], [-0.5, 0.0]])
    assert PHI["square"](cosines).tolist() == [0.25, 0.5]
    assert PHI["abs"](cosines).tolist() == [0.5, 0.5]
    assert PHI["relu"](cosines).tolist() == [0.25, 0.0]
    expected = torch.log(cosines.exp().sum(dim=0))
    assert torch.allclose(PHI["logsumexp"](cosines), expected)


def test_an_unknown_phi_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown phi 'squared'; did you mean 'square'\?"):
        PHI.find("squared")
