"""Nets that are written in unusual ways, and what a map of them may and may not say."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import weight_norm

from robustkit import explain
from robustkit.errors import ExplainError
from robustkit.explain.faithfulness import layers_with_weights, randomised

CLASSES = 5


class Net(nn.Module):
    """A convolution, whatever `inner` does with its maps, the mean, a linear layer."""

    def __init__(self, inner: Callable[[Net, Tensor], Tensor], channels: int = 4) -> None:
        super().__init__()
        self.head = nn.Linear(channels, CLASSES)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.act = nn.ReLU()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        logits: Tensor = self.head(self.inner(self, self.first(x)).mean((2, 3)))
        return logits


def made(inner: Callable[[Net, Tensor], Tensor]) -> Net:
    torch.manual_seed(0)
    return Net(inner).eval()


def images(count: int = 2) -> Tensor:
    return torch.rand(count, 1, 12, 12, generator=torch.Generator().manual_seed(1))


def aliased(net: Net, z: Tensor) -> Tensor:
    a = net.act(z)
    b: Tensor = net.second(a)
    return F.dropout(a, 0.1, training=False) + b.float().contiguous()


def test_operations_that_give_back_what_they_were_given_are_none() -> None:
    plain = made(lambda net, z: net.act(z) + net.second(net.act(z)))
    for layers in (["first"], ["second"]):
        with explain.trace(plain, images(), 1, layers) as t:
            expected = explain.cav(t)[layers[0]]
        with explain.trace(made(aliased), images(), 1, layers) as t:
            found = explain.cav(t)[layers[0]]
        torch.testing.assert_close(found.raw, expected.raw)
        torch.testing.assert_close(found.biases, expected.biases)
        assert found.cut == expected.cut


@pytest.mark.parametrize(
    "f",
    [
        lambda z: F.hardtanh(z, -1e-3, 1e-3),
        lambda z: torch.clamp(z, 0, 1e-4),
        lambda z: F.softplus(z, beta=1000),
        lambda z: z.clamp_max(0.1),
        lambda z: torch.clamp_max(z, -0.1),
        lambda z: z.clone().clamp_min_(0.05),
        lambda z: F.pad(z, (1, 1, 0, 2), value=0.7),
        lambda z: torch.add(z, torch.ones(4, 1, 1), alpha=-2),
        lambda z: torch.sub(z, torch.ones(4, 1, 1), alpha=3),
        lambda z: torch.add(z, torch.tanh(z), alpha=2),
        lambda z: z.amax(dim=1, keepdim=True).expand(-1, 4, -1, -1),
    ],
)
def test_contributions_add_up_in_float32(f: Callable[[Tensor], Tensor]) -> None:
    net = made(lambda net, z: net.second(f(z)))
    x = images()
    with explain.trace(net, x, 2) as t:
        cuts = [each for each in explain.cav(t).values() if each.cut]
        leaf = x.clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(net(leaf)[:, 2].sum(), leaf)
        torch.testing.assert_close(explain.saliency(t), slope)
    assert len(cuts) > 1
    assert max(float(each.residual.abs().max()) for each in cuts) < 1e-5


def test_the_secant_at_zero_is_the_derivative_there() -> None:
    net = made(lambda net, z: torch.sigmoid(z * 0))
    with explain.trace(net, images(), 0, ["first"]) as t:
        assert float(explain.cav(t)["first"].residual.abs().max()) < 1e-6


def test_instance_norm_with_running_statistics_is_affine() -> None:
    norm = nn.InstanceNorm2d(4, affine=True, track_running_stats=True)
    norm.running_mean, norm.running_var = torch.rand(4), 1 + torch.rand(4)
    norm.eval()
    net = made(lambda net, z: F.relu(norm(z)))
    with explain.trace(net, images(), 0) as t:
        assert max(float(each.residual.abs().max()) for each in explain.cav(t).values()) < 1e-5
        assert explain.cav(t)["input"].biases.abs().max() > 1e-3


def test_batch_norm_without_running_statistics_mixes_images_and_is_refused() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)).eval()
    with (
        pytest.raises(ExplainError, match="'1' is batch norm without running statistics"),
        explain.trace(net, images()),
    ):
        pass


def channels_last(net: Net, z: Tensor) -> Tensor:
    y: Tensor = net.act(F.layer_norm(z.permute(0, 2, 3, 1), (4,)))
    made: Tensor = net.second(torch.movedim(y, 3, 1))
    return made + y.transpose(1, 3).transpose(2, 3)


def test_maps_whose_channels_come_last_are_no_maps() -> None:
    net = made(channels_last)
    with explain.trace(net, images(), 0) as t:
        assert all(each.shape[1] in (1, 4) for each in t.layers.values())
        assert "act" not in t.layers
    with (
        pytest.raises(ExplainError, match="layer 'act' has its channels last"),
        explain.trace(net, images(), 0, ["act"]),
    ):
        pass
    with explain.trace(net, images(), 0, ["second"]) as t:
        assert t.layers["second"].shape == (2, 4, 12, 12)


def test_a_module_called_input_does_not_take_the_images_place() -> None:
    net = nn.Sequential(
        OrderedDict(input=nn.Conv2d(1, 4, 3), pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten())
    )
    with explain.trace(net.eval(), images(), 0, ["input", "Conv2d"]) as t:
        assert explain.saliency(t).shape == (2, 1, 12, 12)
        assert t.layers["input (a module)"].shape == (2, 4, 10, 10)


@pytest.mark.parametrize("activation", [F.gelu, torch.relu])
def test_writing_into_an_activation_is_right_or_said(
    activation: Callable[[Tensor], Tensor],
) -> None:
    def inner(net: Net, z: Tensor) -> Tensor:
        a = activation(z)
        a[:, 0] = 0
        return a

    with (
        pytest.raises(ExplainError, match="writes in place into what an activation gave"),
        explain.trace(made(inner), images(), 0) as t,
    ):
        explain.saliency(t)


def test_the_cascade_goes_the_way_of_the_forward_pass() -> None:
    net = made(lambda net, z: net.second(z))
    with explain.trace(net, images(), 0) as t:
        order = t.modules
    assert layers_with_weights(net) == ["first", "second", "head"]  # as it is defined
    assert layers_with_weights(net, order) == ["head", "second", "first"]
    names = [name for name, _ in randomised(net, order=order)]
    assert names == ["head", "second", "first"]


def test_a_weight_normed_layer_is_drawn_anew_too() -> None:
    with pytest.warns(FutureWarning):
        normed = weight_norm(nn.Conv2d(1, 4, 3))
    net = nn.Sequential(normed, nn.ReLU(), nn.Flatten(), nn.Linear(400, 5))
    with explain.trace(net.eval(), images(), 0):
        pass  # a weight norm that has never run holds a graph and cannot be copied
    before = {name: each.clone() for name, each in net.named_parameters()}
    for name, copied in randomised(net, cascading=False):
        now = dict(copied.named_parameters())
        changed = {each for each in now if not torch.equal(now[each], before[each])}
        assert changed == {each for each in before if each.startswith(f"{name}.")}


def test_a_nan_is_no_agreement() -> None:
    x = images()
    x[0, 0, 3, 3] = torch.nan
    with (
        explain.trace(made(lambda net, z: torch.relu(z)), x, 0) as t,
        pytest.raises(ExplainError, match="CAV misses the score by nan"),
    ):
        explain.cav(t)
