"""Occlusion, paths of filters, means of gradients: each against the slow way."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit import explain
from robustkit.errors import ConfigError, ExplainError
from tests.robustkit.explain.nets import cnn, images, made, mlp

# --------------------------------------------------------------------------------------- occlusion


@pytest.mark.parametrize("region", [2, 3, 8])
@pytest.mark.parametrize("fill", [0.0, 0.5])
def test_occlusion_is_one_forward_pass_for_each_region(region: int, fill: float) -> None:
    net, x = made(cnn), images(3)
    found = explain.occlusion(net, x, [0, 2, 1], region=region, fill=fill)
    side = -(-8 // region)
    assert found.drop.shape == found.important.shape == (3, side, side)
    plain = net(x).detach()
    for row, target in enumerate([0, 2, 1]):
        for down in range(side):
            for right in range(side):
                covered = x[row : row + 1].clone()
                here = slice(down * region, (down + 1) * region)
                covered[:, :, here, right * region : (right + 1) * region] = fill
                said = net(covered)[0].detach()
                drop = plain[row, target] - said[target]
                assert float(found.drop[row, down, right]) == pytest.approx(float(drop), abs=1e-5)
                flipped = int(said.argmax()) != int(plain[row].argmax())
                assert bool(found.important[row, down, right]) == flipped


def test_greedy_occlusion_takes_what_leaves_least() -> None:
    net, x = made(mlp), images(2)
    for row, found in enumerate(explain.greedy_occlusion(net, x, region=4)):
        image = x[row : row + 1].clone()
        target = int(net(image).argmax())
        left = [(down, right) for down in (0, 4) for right in (0, 4)]
        for region, score in zip(found.regions, found.scores, strict=True):
            scores = {}
            for down, right in left:
                covered = image.clone()
                covered[:, :, down : down + 4, right : right + 4] = 0
                scores[down, right] = float(net(covered).detach()[0, target])
            best = min(scores, key=lambda each: scores[each])
            assert region == best[0] // 4 * 2 + best[1] // 4
            assert score == pytest.approx(scores[best], abs=1e-5)
            image[:, :, best[0] : best[0] + 4, best[1] : best[1] + 4] = 0
            left.remove(best)
        assert found.flipped == (int(net(image).argmax()) != target)
        assert found.flipped or not left


def test_a_region_is_a_square_in_the_image() -> None:
    for region in (0, 9):
        with pytest.raises(ExplainError, match=f"regions of {region} pixels: from 1 to 8"):
            explain.occlusion(made(mlp), images(), region=region)


# ----------------------------------------------------------------------------------------- filters


def two_layers(between: type[nn.Module]) -> nn.Sequential:
    """conv - pool - conv - pool - affine, as the source has it, with something in between."""
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        between(),
        nn.MaxPool2d(2),
        nn.Conv2d(3, 2, 3),
        between(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2, 3),
    )


@pytest.mark.parametrize("between", [nn.Identity, nn.ReLU])
def test_paths_are_the_sources_formula(between: type[nn.Module]) -> None:
    net, x = made(lambda: two_layers(between)), images(4)
    assert isinstance(net, nn.Sequential)
    with explain.trace(net, x, target=[0, 1, 2, 0], layers=["2", "3"]) as t:
        found = explain.filter_paths(t, "2", "3")
    conv = net[3]
    assert isinstance(conv, nn.Conv2d)
    a1 = net[:3](x)
    a2 = conv(a1).detach().requires_grad_(True)
    score = net[4:](a2).gather(1, t.targets[:, None]).sum()
    (slope,) = torch.autograd.grad(score, a2)
    for i in range(3):
        for j in range(2):
            added = F.conv2d(a1[:, i : i + 1], conv.weight[j : j + 1, i : i + 1])[:, 0]
            expected = (slope[:, j] * added).flatten(1).sum(dim=1)
            torch.testing.assert_close(found.values[:, i, j], expected.detach())
    total = found.values.flatten(1).sum(dim=1) + found.biases
    torch.testing.assert_close(total, t.score, rtol=1e-12, atol=1e-12)
    order = found.values.flatten(1).argsort(dim=1, descending=True)[:, :2]
    assert found.winners(2).tolist() == [[[k // 2, k % 2] for k in row] for row in order.tolist()]


def test_paths_through_any_two_layers_add_up() -> None:
    net, x = made(cnn), images(3)
    with explain.trace(net, x, layers=["0", "4", "5"]) as t:
        for second in ("4", "5"):
            found = explain.filter_paths(t, "0", second)
            assert found.values.shape == (3, 4, 4)
            torch.testing.assert_close(found.values.flatten(1).sum(1) + found.biases, t.score)
            ranking = explain.filter_ranking(t, "0")
            torch.testing.assert_close(found.values.sum(dim=2), ranking)
        with pytest.raises(ExplainError, match="'5' does not come before '4'"):
            explain.filter_paths(t, "5", "4")
        with pytest.raises(ExplainError, match="no layer '7' in the trace"):
            explain.filter_paths(t, "0", "7")


# ------------------------------------------------------------------------------------------- means


def test_integrated_gradients_are_complete() -> None:
    net, x = made(lambda: mlp(nn.Tanh)), images(3)
    found = explain.integrated_gradients(net, x, 1, steps=32, baseline=0.2)
    expected = net(x)[:, 1] - net(torch.full_like(x, 0.2))[:, 1]
    torch.testing.assert_close(found.flatten(1).sum(dim=1), expected, rtol=1e-6, atol=1e-8)


def test_integrated_gradients_against_a_fine_sum() -> None:
    net, x = made(lambda: mlp(nn.Tanh)), images(2)
    total = torch.zeros_like(x)
    for step in range(2000):
        at = (x * (step + 0.5) / 2000).requires_grad_(True)
        total += torch.autograd.grad(net(at)[:, 0].sum(), at)[0] / 2000
    torch.testing.assert_close(
        explain.integrated_gradients(net, x, 0, steps=32), x * total, rtol=1e-5, atol=1e-7
    )


def test_smoothgrad_is_a_mean_of_gradients() -> None:
    net, x = made(lambda: mlp(nn.Tanh)), images(2)
    with explain.trace(net, x, 0) as t:
        plain = explain.saliency(t)
    assert torch.equal(explain.smoothgrad(net, x, 0, samples=4, spread=0.0), plain)
    noisy = explain.smoothgrad(net, x, 0, samples=4, seed=1)
    assert torch.equal(noisy, explain.smoothgrad(net, x, 0, samples=4, seed=1))
    assert not torch.equal(noisy, explain.smoothgrad(net, x, 0, samples=4, seed=2))

    def squared(t: explain.Trace) -> Tensor:
        return explain.saliency(t).square()

    both = explain.smoothgrad(net, x, 0, samples=2, spread=0.0, of=squared)
    torch.testing.assert_close(both, plain.square())


class Writes(nn.Module):
    """Writes into what it is given, and looks at a part of it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x.mul_(2.0).clamp_(0.0, 1.5))
        return logits


def test_gradients_without_a_trace_are_those_of_one() -> None:
    for make in (cnn, mlp, Writes):
        net, x = made(make), images(3)
        before = x.clone()
        read = explain.smoothgrad(net, x, 0, samples=3, of=lambda t: explain.saliency(t))
        assert torch.equal(explain.smoothgrad(net, x, 0, samples=3), read)
        assert float(read.abs().max()) > 0
        assert torch.equal(x, before)
        assert all(each.requires_grad and each.grad is None for each in net.parameters())


def test_settings_of_means_are_checked() -> None:
    net, x = made(mlp), images()
    with pytest.raises(ConfigError, match="samples 0"):
        explain.smoothgrad(net, x, samples=0)
    with pytest.raises(ConfigError, match="steps must be at least 1"):
        explain.integrated_gradients(net, x, steps=0)


def test_smoothgrad_takes_the_mean_of_a_map_of_any_shape() -> None:
    net, x = made(cnn), images()
    with explain.trace(net, x, layers=("input",)) as t:
        expected = explain.saliency(t).abs().sum(dim=1)
    still = explain.smoothgrad(
        net, x, samples=3, spread=0.0, of=lambda t: explain.saliency(t).abs().sum(dim=1)
    )
    torch.testing.assert_close(still, expected)
