from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from robustkit.models import Block, Blueprint, Head, build, cost
from robustkit.models.blueprint import ACTIVATIONS, KINDS, BlueprintNet, Maps, wire
from tests.robustkit.models.blueprints import blueprints
from tests.robustkit.models.counting import slow_macs

STEM = Block(channels=4, norm="none")


def _net(*blocks: Block, size: int = 8, head: Head | None = None) -> BlueprintNet:
    torch.manual_seed(0)
    return BlueprintNet(Blueprint(blocks=blocks, head=head or Head()), 3, 1, size)


@settings(max_examples=40, deadline=None)
@given(blueprints(), st.sampled_from((1, 2, 3, 7, 8)), st.sampled_from((1, 3)))
def test_any_blueprint_runs_as_planned_on_any_size(
    blueprint: Blueprint, size: int, channels: int
) -> None:
    net = BlueprintNet(blueprint, 4, channels, size).eval()
    seen: dict[int, Maps] = {}

    def watch(node: int, out: Tensor) -> None:
        assert out.shape[2] == out.shape[3]
        seen[node] = Maps(out.shape[1], out.shape[2])

    for name, module in net.nodes.items():
        module.register_forward_hook(lambda _, __, out, node=int(name): watch(node, out))
    logits = net(torch.rand(2, channels, size, size))
    assert logits.shape == (2, 4)
    assert logits.isfinite().all()
    assert seen == {each.node: each.out for each in wire(blueprint, channels, size)}


@settings(max_examples=30, deadline=None)
@given(blueprints(), st.sampled_from((1, 7, 8)))
def test_the_cost_of_a_blueprint_is_the_cost_of_its_net(blueprint: Blueprint, size: int) -> None:
    shape = (1, size, size)
    net = build(blueprint, num_classes=4, in_channels=1, image_size=size)
    planned = cost(blueprint, shape, 4)
    assert planned.params == sum(weight.numel() for weight in net.parameters())
    assert planned.macs == slow_macs(net, shape)
    assert cost(net, shape) == planned


def test_the_cost_of_a_blueprint_needs_a_class_count() -> None:
    with pytest.raises(ValueError, match="num_classes"):
        cost(Blueprint(blocks=(STEM,)), (1, 8, 8))


@settings(max_examples=30, deadline=None)
@given(blueprints())
def test_the_input_gradient_reaches_the_weights(blueprint: Blueprint) -> None:
    net = BlueprintNet(blueprint, 3, 1, 6).double()
    x = torch.rand(3, 1, 6, 6, dtype=torch.float64, requires_grad=True)
    loss = nn.functional.cross_entropy(net(x), torch.tensor([0, 1, 2]))
    (gradient,) = torch.autograd.grad(loss, x, create_graph=True)
    weights = list(net.parameters())
    parts = torch.autograd.grad(gradient.square().sum() + loss, weights, allow_unused=True)
    # A weight that reaches the logits must be reached by the loss.
    assert all(part is not None and part.isfinite().all() for part in parts)


@pytest.mark.parametrize("activation", [name for name in ACTIVATIONS if name != "relu"])
@pytest.mark.parametrize("kind", ["conv", "separable", "residual", "dense", "inception"])
def test_second_derivatives_agree_with_finite_differences(kind: str, activation: str) -> None:
    block = Block(kind=kind, channels=3, norm="group", stride=2, activation=activation)
    net = _net(replace(block, inputs=(0,)), size=4).double()
    x = torch.rand(1, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(net, x)
    if activation in ("silu", "gelu"):
        assert torch.autograd.gradgradcheck(net, x)


def test_blocks_that_feed_nothing_are_not_built() -> None:
    dead = Block(kind="residual", channels=64)
    with_dead = Blueprint(blocks=(STEM, dead, Block(inputs=(1,))))
    without = Blueprint(blocks=(STEM, Block(inputs=(1,))))
    nets = [
        build(each, num_classes=3, in_channels=1, image_size=8, seed=5)
        for each in (with_dead, without)
    ]
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(nets[0](x), nets[1](x))
    assert cost(with_dead, (1, 8, 8), 3) == cost(without, (1, 8, 8), 3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", ["group", "none"])
def test_without_batch_norm_images_do_not_see_each_other(kind: str, norm: str) -> None:
    net = _net(STEM, Block(kind=kind, channels=8, norm=norm, inputs=(0, 1), merge="concat"))
    x = torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(net.train()(x)[:1], net(x[:1]))


def test_several_inputs_are_added_at_the_smallest_size() -> None:
    half = Block(kind="identity", stride=2)
    net = _net(half, Block(kind="identity", inputs=(0, 1)), head=Head(pool="flatten"))
    x = torch.rand(2, 1, 8, 8)
    pooled = nn.functional.avg_pool2d(x, 2)
    torch.testing.assert_close(net(x), net.head(2 * pooled))


def test_an_addition_adapts_the_narrower_maps() -> None:
    net = _net(STEM, Block(kind="identity", inputs=(0, 1)), head=Head(pool="flatten"))
    x = torch.rand(2, 1, 8, 8)
    adapter = net.get_submodule("joins.2.adapters.0.0")
    assert isinstance(adapter, nn.Conv2d)
    torch.testing.assert_close(net(x), net.head(adapter(x) + net.nodes["1"](x)))


def test_a_concatenation_keeps_the_order_of_the_inputs() -> None:
    net = _net(STEM, Block(kind="identity", inputs=(0, 1), merge="concat"))
    x = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(net(x), net.head(torch.cat([x, net.nodes["1"](x)], dim=1)))


def test_dense_keeps_its_input_and_adds_maps() -> None:
    block = _net(Block(kind="dense", channels=5, stride=2)).nodes["1"]
    x = torch.rand(2, 1, 8, 8)
    assert block(x).shape == (2, 6, 4, 4)
    torch.testing.assert_close(block(x)[:, :1], nn.functional.avg_pool2d(x, 2))


def test_residual_sums_then_activates() -> None:
    block = _net(Block(kind="residual", channels=5, stride=2)).nodes["1"].eval()
    x = torch.rand(2, 1, 8, 8)
    branch, skip = block.get_submodule("branch"), block.get_submodule("skip")
    torch.testing.assert_close(block(x), torch.relu(branch(x) + skip(x)))


@pytest.mark.parametrize(
    ("channels", "widths"), [(1, [1]), (2, [1, 1]), (7, [3, 2, 2]), (9, [3, 3, 3])]
)
def test_inception_shares_its_channels_out(channels: int, widths: list[int]) -> None:
    net = _net(Block(kind="inception", channels=channels, kernel=3))
    convs = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    assert [conv.out_channels for conv in convs] == widths
    assert [conv.kernel_size[0] for conv in convs] == [1, 3, 5][: len(widths)]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 5, 15])
@pytest.mark.parametrize("size", [1, 2, 7, 8])
def test_average_pooling_is_torchs(size: int, kernel: int, stride: int) -> None:
    block = Block(kind="pool", pool="avg", kernel=kernel, stride=stride)
    x = torch.rand(2, 3, size, size)
    module = BlueprintNet(Blueprint(blocks=(block,)), 2, 3, size).nodes["1"]
    wanted = nn.functional.avg_pool2d(x, kernel, stride, kernel // 2, count_include_pad=False)
    torch.testing.assert_close(module(x), wanted)


@pytest.mark.parametrize("size", [1, 2, 5, 7, 8, 28])
def test_shrinking_is_adaptive_average_pooling(size: int) -> None:
    block = Block(kind="identity", stride=2)
    x = torch.rand(2, 3, size, size)
    module = BlueprintNet(Blueprint(blocks=(block,)), 2, 3, size).nodes["1"]
    wanted = nn.functional.adaptive_avg_pool2d(x, (size + 1) // 2)
    torch.testing.assert_close(module(x), wanted)


@pytest.mark.parametrize("channels", [2, 6, 8, 16])
def test_group_norm_leaves_a_signal_on_single_pixels(channels: int) -> None:
    net = _net(Block(channels=channels, norm="group", activation="elu"), size=1)
    norm = next(layer for layer in net.modules() if isinstance(layer, nn.GroupNorm))
    outputs = norm(torch.randn(5, channels, 1, 1))
    assert outputs.std(dim=0).max() > 0.1


@pytest.mark.parametrize(("norm", "biased"), [("batch", False), ("group", False), ("none", True)])
def test_convolutions_have_a_bias_only_without_normalisation(norm: str, biased: bool) -> None:
    net = _net(Block(channels=4, norm=norm))
    conv = next(layer for layer in net.modules() if isinstance(layer, nn.Conv2d))
    assert (conv.bias is not None) is biased
