"""Contributions against the definition, layer by layer with every division; what they add up to."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from robustkit import explain
from robustkit.errors import ExplainError
from tests.robustkit.explain.nets import cnn, images, made, mlp
from tests.robustkit.explain.oracle import naive

ACTIVATIONS = [nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.SiLU, nn.GELU, nn.ELU, nn.Hardswish, nn.ReLU6]
WITH_BASE = [nn.Sigmoid, nn.Softplus]
Make = Callable[..., nn.Sequential]


@pytest.mark.parametrize("paper", [False, True])
@pytest.mark.parametrize("act", [*ACTIVATIONS, *WITH_BASE])
@pytest.mark.parametrize("make", [mlp, cnn])
def test_one_backward_pass_gives_what_the_definition_gives(
    make: Make, act: type[nn.Module], paper: bool
) -> None:
    net, x = made(lambda: make(act)), images(3)
    assert isinstance(net, nn.Sequential)
    names = [str(number) for number in range(len(net) - 1)]
    with explain.trace(net, x, target=torch.tensor([0, 2, 1]), layers=names) as t:
        found = explain.cav(t, paper=paper)
    for row, target in enumerate([0, 2, 1]):
        with torch.no_grad():
            expected = naive(net, x[row : row + 1], target, paper=paper)
        for name, raw, bias in zip(["input", *names], expected.raw, expected.biases, strict=True):
            close(found[name].raw[row], raw[0])
            close(found[name].biases[row], bias)


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b.reshape(a.shape), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("act", [*ACTIVATIONS, *WITH_BASE])
def test_contributions_and_biases_add_up_to_the_score(act: type[nn.Module]) -> None:
    net, x = made(lambda: cnn(act)), images(4)
    with explain.trace(net, x, layers=["auto", "0", "4", "8"]) as t:
        for name, each in explain.cav(t).items():
            assert each.cut, name
            assert float(each.residual.abs().max()) < 1e-12
            torch.testing.assert_close(
                each.ratio * t.score.view(-1, *[1] * (each.raw.dim() - 1)), each.raw
            )


def test_inside_a_residual_branch_is_no_cut() -> None:
    net, x = made(cnn), images(2)
    with explain.trace(net, x, layers=["4.branch.2", "4"]) as t:
        found = explain.cav(t)
    assert not found["4.branch.2"].cut
    assert float(found["4.branch.2"].residual.abs().min()) > 1e-6
    assert found["4"].cut


@pytest.mark.parametrize("name", ["resnet18", "vgg16"])
def test_large_nets_conserve_the_score(name: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = getattr(torchvision.models, name)(num_classes=10).eval()
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1, 0.1)
                nn.init.normal_(module.bias, 0, 0.1)
    x = images(2, channels=3).float().repeat(1, 1, 8, 8)
    with explain.trace(net, x) as t:
        found = explain.cav(t)
        assert len(found) >= 6
        for each in found.values():
            assert each.cut
            assert float((each.residual / each.score).abs().max()) < 1e-4


def test_a_dead_window_is_no_nan() -> None:
    """Where the naive ratio is 0 / 0: an average of nothing but zeros, a border without bias."""
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.AvgPool2d(4),
        nn.Flatten(),
        nn.Linear(8, 3),
    ).double()
    x = images(1)
    x[:, :, :4] = 0
    with explain.trace(net, x, layers=["1", "2"]) as t:
        for each in explain.cav(t).values():
            assert bool(each.raw.isfinite().all())
            assert float(each.residual.abs().max()) < 1e-12


@pytest.mark.parametrize("act", [F.silu, F.gelu, torch.tanh, torch.sigmoid, F.softplus, F.elu])
def test_secants_close_to_zero_are_exact(act: Callable[[Tensor], Tensor]) -> None:
    """Around 0 the quotient (f(z) - f(0)) / z cancels."""

    class Near(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = act(x.flatten(1))
            return y

    z = torch.tensor([0.0, 1e-30, 1e-12, -1e-9, 1e-6, -1e-4, 1e-3, 0.5]).double()
    with explain.trace(Near(), z.view(-1, 1, 1, 1), target=0) as t:
        slope = t.backward("secant").slopes["input"].flatten()
    fine = torch.linspace(0, 1, 20001, dtype=torch.float64)
    for value, found in zip(z.tolist(), slope.tolist(), strict=True):
        points = (value * fine).requires_grad_(True)
        # The secant is the mean of the derivative over the way from 0.
        (derivative,) = torch.autograd.grad(act(points).sum(), points)
        mean = torch.trapezoid(derivative, fine)
        assert found == pytest.approx(float(mean), rel=1e-8)


# --------------------------------------------------------------------------- what has no convention


class Gated(nn.Module):
    """Squeeze and excitation: a product of two things that both depend on the image."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.gate = nn.Conv2d(1, 2, 3), nn.Conv2d(1, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        y: Tensor = (self.body(x) * self.gate(x)).mean(dim=(2, 3))
        return y


class Attending(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return x.flatten(1)[:, :3].softmax(dim=1)


class Dividing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return 1 / (1 + x.flatten(1)[:, :3])


@pytest.mark.parametrize(
    ("module", "what"), [(Gated, "mul"), (Attending, "softmax"), (Dividing, "div|reciprocal")]
)
def test_an_operation_without_a_convention_is_named(module: type[nn.Module], what: str) -> None:
    net = nn.Sequential(nn.Identity(), module()).double()
    with explain.trace(net, images()) as t:
        with pytest.raises(ExplainError, match=f"no convention for .*({what}).* in '1'"):
            explain.cav(t)
        assert explain.saliency(t).shape == images().shape


def test_constants_are_biases() -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(64, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = 2 * (3 - x) / 0.7 - torch.full((1, 8, 8), 0.4, dtype=x.dtype)
            x = 1.5 + x + 0.25
            x -= 0.1
            y: Tensor = self.last(x.flatten(1))
            return y

    net = made(Shifted)
    with explain.trace(net, images(3)) as t:
        found = explain.cav(t)["input"]
    torch.testing.assert_close(found.raw, t.images * _gradient(net, t.images, t.targets))
    assert float(found.residual.abs().max()) < 1e-12


def _gradient(net: nn.Module, x: Tensor, targets: Tensor) -> Tensor:
    x = x.clone().requires_grad_(True)
    (found,) = torch.autograd.grad(net(x).gather(1, targets[:, None]).sum(), x)
    return found


@pytest.mark.parametrize(
    "norm",
    [
        lambda: nn.LayerNorm([4, 8, 8]),
        lambda: nn.GroupNorm(2, 4),
        lambda: nn.InstanceNorm2d(4, affine=True),
    ],
)
def test_normalisations_have_frozen_statistics(norm: Callable[[], nn.Module]) -> None:
    """The same as an affine layer with the scale and shift of these very images."""

    def build() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), norm(), nn.ReLU(), nn.Flatten(), nn.Linear(256, 3)
        )

    net, x = made(build), images(2)
    assert isinstance(net, nn.Sequential)
    with torch.no_grad():
        for parameter in net[1].parameters():
            parameter.uniform_(0.5, 1.5)
    with explain.trace(net, x, layers=["0", "1"]) as t:
        found = explain.cav(t)
        torch.testing.assert_close(explain.saliency(t), _gradient(net, x, t.targets))
    for each in found.values():
        assert float(each.residual.abs().max()) < 1e-12
    given, out = t.layers["0"], t.layers["1"]
    for row in range(2):
        for channel in range(4):
            # Two points of one channel give the slope; with LayerNorm it varies by the pixel.
            slope = found["0"].raw[row, channel] / given[row, channel]
            expected = found["1"].raw[row, channel] / out[row, channel]
            if not isinstance(net[1], nn.LayerNorm):
                scale = (out[row, channel, 0, 0] - out[row, channel, 0, 1]) / (
                    given[row, channel, 0, 0] - given[row, channel, 0, 1]
                )
                torch.testing.assert_close(slope, expected * scale, rtol=1e-8, atol=1e-10)
