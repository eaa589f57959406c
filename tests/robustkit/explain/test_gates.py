"""Products of two activations, and what is put beside activations: constants in contributions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit import explain
from robustkit.errors import ExplainError
from tests.robustkit.explain.nets import CLASSES, images, made

CHANNELS = 6
Freeze = Callable[[Tensor], Tensor]
Inner = Callable[["Gated", Tensor, Freeze], Tensor]


class Gated(nn.Module):
    """A convolution, what `inner` makes of its maps, the mean over positions, a linear layer.

    `frozen` detaches every gate: the slow definition of what a contribution takes a gate for.
    """

    def __init__(self, inner: Inner, *, frozen: bool = False) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, CHANNELS, 3)
        self.second = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.squeeze, self.excite = nn.Conv2d(CHANNELS, 2, 1), nn.Conv2d(2, CHANNELS, 1)
        self.token = nn.Parameter(torch.rand(1, 1, CHANNELS))
        self.query, self.key, self.value = (nn.Linear(CHANNELS, CHANNELS) for _ in range(3))
        self.head = nn.Linear(CHANNELS, CLASSES)
        self.inner, self.freeze = inner, Tensor.detach if frozen else (lambda each: each)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        maps = self.inner(self, F.relu(self.first(x)), self.freeze)
        logits: Tensor = self.head(maps.flatten(2).mean(dim=2))
        return logits

    def project(self, t: Tensor) -> Tensor:
        """The values (N,T,C) of tokens (N,T,C)."""
        values: Tensor = self.value(t)
        return values

    def conv(self, h: Tensor) -> Tensor:
        """A second convolution (N,C,H,W)."""
        maps: Tensor = self.second(h)
        return maps


def scale(net: Gated, h: Tensor) -> Tensor:
    excited: Tensor = net.excite(F.silu(net.squeeze(h.mean((2, 3), keepdim=True))))
    return excited


def squeeze_excite(net: Gated, h: Tensor, freeze: Freeze) -> Tensor:
    return net.conv(h) * freeze(torch.sigmoid(scale(net, h)))


def scale_first(net: Gated, h: Tensor, freeze: Freeze) -> Tensor:
    return freeze(F.hardsigmoid(scale(net, h))).mul(net.conv(h))


def unbounded_scale(net: Gated, h: Tensor, freeze: Freeze) -> Tensor:
    return F.relu6(net.conv(h)) * freeze(scale(net, h))


def by_spread(net: Gated, h: Tensor, freeze: Freeze) -> Tensor:
    return h * freeze(torch.sigmoid(scale(net, h))).expand_as(h)


def in_place(net: Gated, h: Tensor, freeze: Freeze) -> Tensor:
    return net.conv(h).mul_(freeze(torch.sigmoid(scale(net, h))))


def by_deviation(net: Gated, h: Tensor, freeze: Freeze) -> Tensor:
    return h * freeze(torch.sigmoid(h.std((2, 3), keepdim=True)))


def places(net: Gated, h: Tensor, freeze: Freeze) -> Tensor:
    return h * freeze(h.mean(dim=1, keepdim=True).sigmoid())


def gated_linear(net: Gated, h: Tensor, freeze: Freeze) -> Tensor:
    return h * freeze(torch.sigmoid(net.conv(h)))


def tokens(h: Tensor) -> Tensor:
    return h.flatten(2).transpose(1, 2)


def attention(net: Gated, h: Tensor, freeze: Freeze) -> Tensor:
    t = tokens(h)
    weights = (net.query(t) @ net.key(t).transpose(1, 2) / CHANNELS**0.5).softmax(dim=-1)
    return (freeze(weights) @ net.project(t)).transpose(1, 2)


def fused_attention(net: Gated, h: Tensor, freeze: Freeze) -> Tensor:
    t = tokens(h)
    query, key = freeze(net.query(t)), freeze(net.key(t))
    return F.scaled_dot_product_attention(query, key, net.project(t)).transpose(1, 2)


GATES: list[Inner] = [
    squeeze_excite,
    scale_first,
    unbounded_scale,
    by_spread,
    in_place,
    by_deviation,
    places,
    gated_linear,
    attention,
]


def of(inner: Inner, *, frozen: bool = False) -> nn.Module:
    return made(lambda: Gated(inner, frozen=frozen))


@pytest.mark.parametrize("inner", [*GATES, fused_attention])
def test_gates_are_the_numbers_that_they_are(inner: Inner) -> None:
    x = images(3)
    found = explain.cav(of(inner), x, 1, layers=["first"])
    if inner is not fused_attention:  # a product with constant queries is nothing CAV knows
        expected = explain.cav(of(inner, frozen=True), x, 1, layers=["first"])
        for name in ("input", "first"):
            torch.testing.assert_close(found[name].raw, expected[name].raw)
            torch.testing.assert_close(found[name].biases, expected[name].biases)
    for each in found.values():
        assert each.cut
        torch.testing.assert_close(each.residual, torch.zeros(3, dtype=torch.float64))


def test_attention_is_the_same_fused_and_by_hand() -> None:
    fused = explain.cav(of(fused_attention), images(), 0)
    by_hand = explain.cav(of(attention), images(), 0)
    torch.testing.assert_close(fused["input"].raw, by_hand["input"].raw)


@pytest.mark.parametrize("inner", [*GATES, fused_attention])
def test_gradients_go_through_gates_too(inner: Inner) -> None:
    net, x = of(inner), images(3).requires_grad_(True)
    (expected,) = torch.autograd.grad(net(x)[:, 1].sum(), x)
    torch.testing.assert_close(explain.saliency(net, x.detach(), 1), expected)


@pytest.mark.parametrize(
    ("by_hand", "plain"),
    [
        (lambda n, h, f: h * torch.sigmoid(h), lambda n, h, f: F.silu(h)),
        (lambda n, h, f: torch.sigmoid(h) * h, lambda n, h, f: F.silu(h)),
        (lambda n, h, f: h * F.relu6(h + 3) / 6, lambda n, h, f: F.hardswish(h)),
        (lambda n, h, f: h * (1 + torch.erf(h / 2**0.5)) * 0.5, lambda n, h, f: F.gelu(h)),
        (lambda n, h, f: h * torch.tanh(F.softplus(h)), lambda n, h, f: F.mish(h)),
    ],
)
def test_functions_written_by_hand_are_the_functions(by_hand: Inner, plain: Inner) -> None:
    first, second = (explain.cav(of(inner), images(), 2)["input"] for inner in (by_hand, plain))
    torch.testing.assert_close(first.raw, second.raw)


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        (lambda n, h, f: h * n.conv(h), "no convention for mul in 'the model itself'"),
        (lambda n, h, f: torch.sigmoid(h) * torch.tanh(n.conv(h)), "no convention for mul"),
        (lambda n, h, f: h.exp() * torch.sigmoid(scale(n, h)), "no convention for exp"),
        (lambda n, h, f: h * h.exp().mean((2, 3), keepdim=True) + h.exp(), "convention for exp"),
        (lambda n, h, f: (tokens(h) @ h.flatten(2)).softmax(dim=-1)[:, :6], "convention for"),
    ],
)
def test_what_is_no_gate_is_refused(inner: Inner, message: str) -> None:
    with pytest.raises(ExplainError, match=message):
        explain.cav(of(inner), images())


def test_what_does_not_reach_the_score_is_no_matter() -> None:
    def beside(net: Gated, h: Tensor, freeze: Freeze) -> Tensor:
        h.exp().mean()
        return h

    expected = explain.cav(of(lambda n, h, f: h), images())["input"]
    torch.testing.assert_close(explain.cav(of(beside), images())["input"].raw, expected.raw)


def test_where_something_was_not_seen_every_doubt_counts() -> None:
    hidden = torch.jit.script(_hidden)
    with pytest.raises(ExplainError, match="no convention for exp"):
        explain.cav(of(lambda n, h, f: hidden(h.exp())), images())


def _hidden(x: Tensor) -> Tensor:
    return x * 2.0


def test_a_learnt_token_contributes_as_a_bias() -> None:
    def with_token(net: Gated, h: Tensor, freeze: Freeze) -> Tensor:
        joined = torch.cat([net.token.expand(len(h), -1, -1), tokens(h)], dim=1)
        return net.project(joined).transpose(1, 2)

    net = of(with_token)
    assert isinstance(net, Gated)
    found = explain.cav(net, images(), 1)["input"]
    torch.testing.assert_close(found.residual, torch.zeros(2, dtype=torch.float64))
    before = found.biases
    with torch.no_grad():
        net.token.add_(1)
    change = explain.cav(net, images(), 1)["input"].biases - before
    expected = net.value.weight.sum(dim=1) @ net.head.weight[1] / 37  # 36 positions and the token
    torch.testing.assert_close(change, expected.detach().expand(2))
