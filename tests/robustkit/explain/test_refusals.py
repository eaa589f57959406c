"""What cannot be explained is refused, by the trace or by CAV: never explained wrongly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit import explain
from robustkit.errors import ExplainError
from robustkit.explain.trace import Trace
from tests.robustkit.explain.nets import images, made

Inner = Callable[[Tensor, Any], Tensor]


class Squared(torch.autograd.Function):
    """z² + 1, with a backward of its own."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        y: Tensor = z * z + 1
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors
        found: Tensor = 2 * z * g
        return found


class Sneaky(nn.Module):
    """A small net that does something odd in its middle, h (N,6,6,6)."""

    def __init__(self, inner: Inner) -> None:
        super().__init__()
        self.inner = inner
        self.first, self.last = nn.Conv2d(1, 6, 3), nn.Linear(216, 3)
        self.norm = nn.InstanceNorm2d(6, affine=True, track_running_stats=True)
        self.register_buffer("bound", 0.3 * torch.rand(6, 1, 1))
        self.free = torch.ones(6, 6, 6, dtype=torch.float64, requires_grad=True)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        y: Tensor = self.last(self.inner(F.relu(self.first(x)), self).flatten(1))
        return y


def write_channel(h: Tensor, _: Any) -> Tensor:
    h = h * 1.0
    h[:, 0] = 1.0
    return h


def write_view(h: Tensor, _: Any) -> Tensor:
    h = h * 1.0
    view = h[:, 0]
    view.mul_(3)
    return h


def read_old_view(h: Tensor, _: Any) -> Tensor:
    view = h.view(h.shape)
    h.add_(1)
    return view


def chunked(h: Tensor, _: Any) -> Tensor:
    first, _second = h.chunk(2, dim=1)
    F.relu(first.sub_(0.5), inplace=True)
    return h


def without_gradients(h: Tensor, _: Any) -> Tensor:
    with torch.no_grad():
        h.add_(1)
    return h


def by_data(h: Tensor, _: Any) -> Tensor:
    h.data = h.data + 1
    return h


def moved_rows(h: Tensor, _: Any) -> Tensor:
    rows = h.transpose(0, 1) + torch.arange(6.0, dtype=h.dtype).view(6, 1, 1, 1)
    return rows.transpose(0, 1)


def by_itself(h: Tensor, _: Any) -> Tensor:
    return F.conv2d(h, h[:1, :, :3, :3].repeat(6, 1, 1, 1), padding=1)


REFUSED: list[tuple[str, Inner]] = [
    ("a channel is written", write_channel),
    ("a view is written", write_view),
    ("a view of what was written is read", read_old_view),
    ("a chunk is written", chunked),
    ("without gradients", without_gradients),
    ("by its data", by_data),
    ("a backward of its own", lambda h, m: Squared.apply(h)),
    ("a bound that is the image's", lambda h, m: torch.clamp(h, min=h.mean())),
    ("weights that are the image's", by_itself),
    ("batch and channels change places", moved_rows),
]


@pytest.mark.parametrize(("what", "inner"), REFUSED, ids=[what for what, _ in REFUSED])
def test_it_is_refused(what: str, inner: Inner) -> None:
    count = 6 if inner is moved_rows else 3
    net = made(lambda: Sneaky(inner))
    with pytest.raises(ExplainError), explain.trace(net, images(count), 1) as t:
        explain.cav(t)


EXPLAINED: list[tuple[str, Inner]] = [
    ("a constant less the image", lambda h, m: 2 - h),
    ("rsub", lambda h, m: torch.rsub(h, torch.full_like(h.detach(), 2.0))),
    ("rsub the other way round", lambda h, m: torch.rsub(torch.ones(6, 6, 6).double(), h)),
    ("a tensor that is learnt, no parameter", lambda h, m: h + m.free),
    ("in place on a view that alone is used", lambda h, m: (h * 1.0).flatten(1).sub_(0.5).relu_()),
    ("running statistics", lambda h, m: m.norm(h)),
    ("bounds of every channel", lambda h, m: torch.clamp(h - 0.3, min=m.bound)),
    ("twice in place", lambda h, m: (h * 1.0).add_(1).mul_(2)),
]


@pytest.mark.parametrize(("what", "inner"), EXPLAINED, ids=[what for what, _ in EXPLAINED])
def test_gradients_are_right_and_contributions_add_up_or_are_refused(
    what: str, inner: Inner
) -> None:
    net, x = made(lambda: Sneaky(inner)), images(3)
    with torch.no_grad():
        net.get_buffer("norm.running_mean").uniform_(-1, 1)
        net.get_buffer("norm.running_var").uniform_(0.5, 2)
    with explain.trace(net, x, 1) as t:
        torch.testing.assert_close(t.logits, net(x).detach())
        plain = x.clone().requires_grad_(True)
        (expected,) = torch.autograd.grad(net(plain)[:, 1].sum(), plain)
        torch.testing.assert_close(explain.saliency(t), expected)
        if what == "bounds of every channel":
            with pytest.raises(ExplainError, match="no convention"):
                explain.cav(t)
            return
        for each in explain.cav(t).values():
            if each.cut:
                assert float(each.residual.abs().max()) < 1e-10


class Odd(nn.Module):
    def __init__(self, gives: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.gives = gives

    def forward(self, x: Tensor) -> Any:
        """Whatever."""
        return self.gives(x)


@pytest.mark.parametrize(
    ("gives", "told"),
    [
        (lambda x: (x, x), "must give logits .*tuple"),
        (lambda x: {"out": x}, "must give logits .*dict"),
        (lambda x: x.flatten(), r"must give logits .*\(128,\)"),
        (lambda x: x, r"must give logits .*\(2, 1, 8, 8\)"),
        (lambda x: x.detach().flatten(1), "do not depend on the image"),
    ],
)
def test_models_that_give_no_logits(gives: Callable[[Tensor], Any], told: str) -> None:
    with pytest.raises(ExplainError, match=told), explain.trace(Odd(gives), images(2)):
        pass


@pytest.mark.parametrize(
    "x", [torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.zeros(1, 8, 8), torch.zeros(0, 1, 8, 8)]
)
def test_images_that_are_none(x: Tensor) -> None:
    net = made(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 3))).float()
    with pytest.raises(ExplainError, match="images must be float"), explain.trace(net, x):
        pass


def test_targets_that_are_no_classes() -> None:
    net = made(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 3)))
    target = torch.tensor([1.7, 0.2])
    with (
        pytest.raises(ExplainError, match="targets must be class numbers"),
        explain.trace(net, images(2), target),
    ):
        pass


def test_the_paper_passes_all_of_a_sigmoid_however_small() -> None:
    """Where |z| is small, too: nothing is lost, nothing counted as a bias."""
    net = made(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.Sigmoid(), nn.Linear(9, 3)))
    assert isinstance(net, nn.Sequential)
    with torch.no_grad():
        for parameter in net[1].parameters():
            parameter.mul_(1e-4)
    with explain.trace(net, images(3), 2, layers=["1", "2"]) as t:
        found = explain.cav(t, paper=True)
    torch.testing.assert_close(found["1"].raw, found["2"].raw)
    torch.testing.assert_close(found["1"].biases, found["2"].biases)


def test_every_layer_is_randomised_however_it_is_made() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.rand(64))
            self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(64, 5))
            self.last = nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.last(self.normed(self.scale * x.flatten(1)))
            return y

    net = made(Mixed)
    before = {name: each.detach().clone() for name, each in net.named_parameters()}
    *_, (_, last) = explain.randomised(net)
    for name, each in last.named_parameters():
        assert not torch.equal(each, before[name]), name


def test_contributions_that_miss_the_score_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the trace had overlooked an operation: the biases behind the layers are lost."""
    whole = Trace.backward

    def forgetful(trace: Trace, *arguments: Any, **options: Any) -> Any:
        return replace(whole(trace, *arguments, **options), terms={})

    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 3)).eval()
    x = torch.rand(4, 3, 2, 2)
    assert explain.cav(net, x, 0)["input"].cut
    monkeypatch.setattr(Trace, "backward", forgetful)
    with pytest.raises(ExplainError, match=r"CAV misses the score by .* at 'input'"):
        explain.cav(net, x, 0)
