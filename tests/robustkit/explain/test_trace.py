"""One trace of any code: what it captures, how it goes back, and what it leaves behind."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit import explain
from robustkit.errors import ExplainError
from tests.robustkit.attacks.test_state_preserved import Restless, mixed, same, state
from tests.robustkit.explain.nets import cnn, images, made, mlp


class Plain(nn.Module):
    """Every ReLU a module of its own, out of place: what hooks can see."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3)
        self.c, self.last = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(64, 3)
        self.r1, self.r2, self.r3 = nn.ReLU(), nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = self.r1(self.a(x))
        x = self.r2(self.b(x))
        y: Tensor = self.last(self.r3(x + self.c(x)).flatten(1))
        return y


class Functional(Plain):
    """The same net; not one ReLU is a module."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = F.relu(self.a(x))
        x = torch.clamp(self.b(x), min=0)
        y: Tensor = self.last((x + self.c(x)).relu().flatten(1))
        return y


class Reused(Plain):
    """The same net; one ReLU for all."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = self.r1(self.a(x))
        x = self.r1(self.b(x))
        y: Tensor = self.last(self.r1(x + self.c(x)).flatten(1))
        return y


class InPlace(Plain):
    """The same net; it writes in place, and does not always look at what that gives back."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = self.a(x)
        F.relu(x, inplace=True)
        x = self.b(x).relu_()
        y = self.c(x)
        y += x
        torch.relu_(y)
        z: Tensor = self.last(y.flatten(1))
        return z


WAYS = [Functional, Reused, InPlace]
RULES = ["gradient", "secant", *explain.RELU_RULES]


@pytest.mark.parametrize("way", WAYS)
def test_however_a_net_is_written_it_is_explained_alike(way: type[nn.Module]) -> None:
    x = images(3)
    with explain.trace(made(Plain), x, layers=["auto", "a", "b"]) as t:
        expected = {rule: t.backward(rule) for rule in RULES}
        layers = dict(t.layers)
    net = made(way)
    with explain.trace(net, x, layers=["auto", "a", "b"]) as t:
        assert torch.equal(t.logits, net(x))
        for name in ("a", "b", "input"):
            assert torch.equal(t.layers[name], layers[name])
        assert [each.shape for each in t.layers.values()] == [e.shape for e in layers.values()]
        for rule in RULES:
            found = t.backward(rule)
            for name in ("a", "b", "input"):
                torch.testing.assert_close(found.slopes[name], expected[rule].slopes[name])
            torch.testing.assert_close(
                torch.stack(list(found.terms.values())).sum() if found.terms else torch.zeros(1),
                torch.stack(list(expected[rule].terms.values())).sum()
                if expected[rule].terms
                else torch.zeros(1),
            )


@pytest.mark.parametrize("rule", explain.RELU_RULES)
def test_rules_for_relus_by_hand(rule: str) -> None:
    """One ReLU at a time, as the source writes them."""
    net, x = made(mlp), images(4)
    assert isinstance(net, nn.Sequential)
    z1 = net[1](x.flatten(1))
    z2 = net[3](z1.relu())
    with explain.trace(net, x, target=1) as t:
        found = explain.rectified(t, rule)
    assert isinstance(net[5], nn.Linear)
    g = net[5].weight[1].expand(4, -1)
    for z, layer in ((z2, net[3]), (z1, net[1])):
        positive = (z > 0).double()
        g = {
            "deconvnet": g.clamp_min(0),
            "guided": g.clamp_min(0) * positive,
            "guided-minus": g.clamp_max(0) * positive,
        }[rule]
        assert isinstance(layer, nn.Linear)
        g = g @ layer.weight
    torch.testing.assert_close(found, g.view(x.shape))


@pytest.mark.parametrize(
    ("rule", "peer"), [("guided", "GuidedBackprop"), ("deconvnet", "Deconvolution")]
)
def test_captum_says_the_same_where_it_sees_every_relu(rule: str, peer: str) -> None:
    """And where it does not, it says something else, and ours stays."""
    attr = pytest.importorskip("captum.attr")
    x, target = images(3), torch.tensor([0, 1, 2])
    with explain.trace(made(Plain), x, target) as t:
        ours = explain.rectified(t, rule)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = getattr(attr, peer)(made(Plain)).attribute(x.clone(), target=target)
        blind = getattr(attr, peer)(made(Functional)).attribute(x.clone(), target=target)
    torch.testing.assert_close(ours, theirs.detach())
    with explain.trace(made(Functional), x, target) as t:
        torch.testing.assert_close(explain.rectified(t, rule), theirs.detach())
    assert not torch.allclose(blind, theirs)


def test_gradcam_by_hand() -> None:
    net, x = made(cnn), images(3)
    with explain.trace(net, x, target=2, layers=["2", "4"]) as t:
        maps, signed = explain.gradcam(t), explain.gradcam(t, relu=False)
    seen: list[Tensor] = []
    assert isinstance(net, nn.Sequential)
    handle = net[4].register_forward_hook(lambda *given: seen.append(given[2]))
    score = net(x)[:, 2].sum()
    handle.remove()
    (slope,) = torch.autograd.grad(score, seen[0])
    for row in range(3):
        expected = sum(slope[row, k].mean() * seen[0][row, k] for k in range(4))
        assert isinstance(expected, Tensor)
        torch.testing.assert_close(signed["4"][row], expected.detach())
        torch.testing.assert_close(maps["4"][row], expected.detach().clamp_min(0))
    assert set(maps) == {"2", "4"}


def test_guided_gradcam_is_the_product() -> None:
    net, x = made(cnn), images(2)
    with explain.trace(net, x, layers=["4"]) as t:
        found = explain.guided_gradcam(t, "4")
        large = F.interpolate(explain.gradcam(t)["4"][:, None], size=(8, 8), mode="bilinear")
        torch.testing.assert_close(found, explain.rectified(t, "guided") * large)
        with pytest.raises(ExplainError, match="no Grad-CAM of '5': 4"):
            explain.guided_gradcam(t, "5")


# ------------------------------------------------------------------------------- what is left alone


def test_everything_is_left_as_it_was() -> None:
    net, x = Restless(), images(3).float()
    mixed(net)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    before, kept = state(net), x.clone()
    hooks = [len(module._forward_hooks) for module in net.modules()]
    with explain.trace(net, x) as t:
        assert same(before, state(net))
        explain.saliency(t)
    assert same(before, state(net))
    assert torch.equal(x, kept)
    assert not x.requires_grad
    assert [len(module._forward_hooks) for module in net.modules()] == hooks


def test_everything_is_left_as_it_was_after_an_error() -> None:
    net = Restless(fails=True)
    net.eval()
    x = images(3).float()
    before = state(net)
    with pytest.raises(ZeroDivisionError), explain.trace(net, x):
        pass
    assert same(before, state(net))
    assert not any(module._forward_hooks for module in net.modules())
    assert torch.relu(torch.tensor(-1.0)) == 0  # no recording is left at work


def test_batch_norm_in_training_mode_is_refused() -> None:
    net = made(cnn)
    net.train()
    with (
        pytest.raises(ExplainError, match="'1' is batch norm in training mode"),
        explain.trace(net, images()),
    ):
        pass


def test_a_trace_ends_with_its_block() -> None:
    with explain.trace(made(cnn), images()) as t:
        first = explain.saliency(t)
    assert torch.equal(explain.saliency(t), first)  # computed already
    with pytest.raises(ExplainError, match="the trace has ended"):
        explain.rectified(t, "guided")


def test_one_backward_pass_serves_gradients_and_contributions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []
    grad: Callable[..., tuple[Tensor, ...]] = torch.autograd.grad

    def counted(*given: Any, **named: Any) -> tuple[Tensor, ...]:
        calls.append(1)
        return grad(*given, **named)

    monkeypatch.setattr(torch.autograd, "grad", counted)
    with explain.trace(made(cnn), images()) as t:
        explain.saliency(t)
        explain.gradcam(t)
        explain.cav(t)
        explain.gradient_x_input(t)
    assert len(calls) == 1


def test_rules_for_relus_need_relus() -> None:
    with explain.trace(made(lambda: mlp(nn.Tanh)), images()) as t:
        with pytest.raises(ExplainError, match="the model has none"):
            explain.rectified(t, "guided")
        with pytest.raises(ExplainError, match="no rule for ReLUs 'guide'"):
            explain.rectified(t, "guide")


def test_the_logits_are_a_cut_as_good_as_any() -> None:
    with explain.trace(made(cnn), images(), layers=("Linear",)) as t:
        found = explain.cav(t)
    last = list(found)[-1]
    assert found[last].cut
    assert torch.equal(found[last].raw.sum(dim=1), t.score)


def test_a_callers_autocast_does_not_round_the_maps() -> None:
    net, x = made(cnn).float(), images().float()
    with explain.trace(net, x) as t:
        plain = explain.saliency(t)
    with torch.autocast("cpu", torch.bfloat16), explain.trace(net, x) as t:
        assert torch.equal(explain.saliency(t), plain)
        assert t.logits.dtype == torch.float32
