"""What a network costs: its parameters, and its multiplications per image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from robustkit.models.blueprint import BLOCKS, Blueprint, BlueprintNet, Head
from robustkit.models.blueprint.modules import Join, head_module
from robustkit.models.blueprint.spec import Kind, Maps, Wiring, wire
from robustkit.models.classifier import Classifier
from robustkit.models.fitting import dry_run


@dataclass(frozen=True)
class Cost:
    """`params`: trainable and frozen parameters; `macs`: multiply-accumulates per image."""

    params: int
    macs: int


def cost(
    model: nn.Module | Blueprint, input_shape: Sequence[int], num_classes: int | None = None
) -> Cost:
    """Return the cost of `model` on one image of `input_shape` (C,H,W).

    Multiply-accumulates are those of convolutions and matrix products; normalisation, activations,
    pooling and biases are left out, as the field does. A blueprint's weights are never allocated;
    other models are run once on a black image, and their state is left as it was. A blueprint also
    needs `num_classes`; `ValueError` without it.

    >>> from robustkit.models import Block
    >>> blueprint = Blueprint(blocks=(Block(channels=8, norm="none"),))
    >>> cost(blueprint, (1, 16, 16), num_classes=10)  # 8·9 weights at 256 places, 8·10 in the head
    Cost(params=170, macs=18512)
    """
    if isinstance(model, Blueprint):
        if num_classes is None:
            raise ValueError("the cost of a blueprint depends on num_classes")
        return _blueprint_cost(model, input_shape, num_classes)
    net = model.net if isinstance(model, Classifier) else model
    params = _parameters(model)
    if isinstance(net, BlueprintNet):
        return Cost(params, _blueprint_macs(net))
    return Cost(params, _counted_macs(model, input_shape))


def _blueprint_cost(blueprint: Blueprint, input_shape: Sequence[int], num_classes: int) -> Cost:
    """Return the sum over nodes, each built once: a search asks for thousands of their like."""
    wirings = wire(blueprint, input_shape[0], input_shape[1])
    parts = [_node_cost(_anywhere(each), BLOCKS[each.block.kind]) for each in wirings]
    parts.append(_head_cost(blueprint.head, wirings[-1].out, num_classes))
    return Cost(sum(part.params for part in parts), sum(part.macs for part in parts))


def _anywhere(wiring: Wiring) -> Wiring:
    """Return the same node without its place in the graph, which costs nothing."""
    inputs, block = tuple(range(len(wiring.sources))), wiring.block
    if block.inputs != inputs:
        block = replace(block, inputs=inputs)
    return replace(wiring, node=0, block=block)


@lru_cache(maxsize=16_384)
def _node_cost(wiring: Wiring, kind: Kind) -> Cost:
    """Return the cost of a node; `kind` is its block's, which another of its name may replace."""
    with torch.device("meta"):
        module = kind.make(wiring)
        join = Join(wiring) if len(wiring.sources) > 1 else nn.Identity()
    macs = _weights(module) * wiring.out.side**2 + _weights(join) * wiring.joined.side**2
    return Cost(_parameters(module) + _parameters(join), macs)


@lru_cache(maxsize=1024)
def _head_cost(head: Head, maps: Maps, num_classes: int) -> Cost:
    with torch.device("meta"):
        module = head_module(head, maps, num_classes)
    return Cost(_parameters(module), _weights(module))


def _blueprint_macs(net: BlueprintNet) -> int:
    """Count without a forward pass: every convolution of a block gives maps of the block's side."""
    macs = _weights(net.head)
    for wiring in net.wirings:
        name = str(wiring.node)
        macs += _weights(net.nodes[name]) * wiring.out.side**2
        if name in net.joins:
            macs += _weights(net.joins[name]) * wiring.joined.side**2
    return macs


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _weights(module: nn.Module) -> int:
    layers = (item for item in module.modules() if isinstance(item, nn.Conv2d | nn.Linear))
    return sum(layer.weight.numel() for layer in layers)


def _counted_macs(model: nn.Module, input_shape: Sequence[int]) -> int:
    with FlopCounterMode(display=False) as counter:
        dry_run(model, input_shape)
    return int(counter.get_total_flops()) // 2
