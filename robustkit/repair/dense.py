"""A tail that is a chain of fully connected layers and elementwise functions, as plain tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

Function = Callable[[Tensor], Tensor]
ELEMENTWISE = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.ELU,
    nn.CELU,
    nn.SELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Hardswish,
    nn.Hardsigmoid,
    nn.Hardtanh,
    nn.Sigmoid,
    nn.Tanh,
    nn.Softplus,
)
# In evaluation mode these leave rows of features as they are.
NOTHING = (nn.Identity, nn.Dropout, nn.AlphaDropout, nn.FeatureAlphaDropout, nn.Flatten)
FUNCTIONS = (torch.relu, F.relu, torch.sigmoid, torch.tanh, F.gelu, F.silu)


@dataclass(frozen=True, eq=False)
class Stage:
    """z = `weight` a + `bias`, then the functions in `after`; weight (out,in), bias (out,)."""

    name: str
    weight: Tensor
    bias: Tensor
    after: tuple[Function, ...]

    def activate(self, z: Tensor) -> Tensor:
        """What the next stage sees of pre-activations of any shape."""
        for function in self.after:
            z = function(z)
        return z


def dense_stages(tail: fx.GraphModule) -> list[Stage] | None:
    """The stages of a tail that is such a chain; None for any other tail."""
    nodes = list(tail.graph.nodes)
    inside = nodes[1:-1]
    if nodes[0].op != "placeholder" or len(nodes) < 3:
        return None
    for before, node in pairwise(nodes):
        if list(node.all_input_nodes) != [before] or len(before.users) != 1:
            return None
    stages: list[tuple[str, nn.Linear, list[Function]]] = []
    for node in inside:
        module = tail.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, nn.Linear):
            stages.append((str(node.target), module, []))
            continue
        function = _function(node, module)
        if function is None or not stages:
            return None
        if not isinstance(module, NOTHING):
            stages[-1][2].append(function)
    names = [name for name, _, _ in stages]
    if len(set(names)) < len(names):
        return None
    return [
        Stage(
            name,
            linear.weight.detach(),
            linear.weight.new_zeros(linear.out_features)
            if linear.bias is None
            else linear.bias.detach(),
            tuple(after),
        )
        for name, linear, after in stages
    ]


def _function(node: fx.Node, module: nn.Module | None) -> Function | None:
    if isinstance(module, ELEMENTWISE + NOTHING):
        return module
    plain = len(node.args) == 1 and not {key for key in node.kwargs if key != "inplace"}
    if node.op == "call_function" and node.target in FUNCTIONS and plain:
        function: Function = node.target
        return function
    if node.op == "call_method" and node.target in ("relu", "sigmoid", "tanh") and plain:
        method: Function = getattr(torch, str(node.target))
        return method
    return None
