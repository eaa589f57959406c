"""A net cut in two: what no chosen weight touches, computed once, and the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call


@dataclass(frozen=True, eq=False)
class Cut:
    """`head` maps normalised images to a tuple of tensors (n,…), `tail` maps those to logits.

    Every weight that is to be changed is in `tail`, under the name it has in the net.
    """

    head: fx.GraphModule
    tail: fx.GraphModule

    def logits(self, held: Sequence[Tensor], weights: Mapping[str, Tensor]) -> Tensor:
        """Logits (n,K) from what `head` gave, with `weights` by parameter name in the net."""
        logits: Tensor = functional_call(self.tail, dict(weights), tuple(held))
        return logits


def cut(net: nn.Module, layers: Iterable[str]) -> Cut | None:
    """Cut `net` before the layers of these names; None where its code cannot be traced, or where
    a weight of theirs is another layer's, too.

    The cut is by dependence, not by place: in a residual net or one with branches all that a
    changed weight cannot reach is in the head.
    """
    wanted = set(layers)
    if _tied(net, wanted):
        return None
    try:
        traced = fx.symbolic_trace(net)
    except Exception:
        # Tracing runs the net's own code on stand-ins, which may raise anything at all.
        return None
    nodes = list(traced.graph.nodes)
    touched = [node for node in nodes if node.op == "call_module" and node.target in wanted]
    if {node.target for node in touched} != wanted or _used_otherwise(nodes, wanted):
        return None
    after = _reached(nodes, set(touched))
    output = nodes[-1]
    if output not in after:
        return None
    frontier = list(
        dict.fromkeys(
            source
            for node in nodes
            if node in after
            for source in node.all_input_nodes
            if source not in after and source.op != "get_attr"
        )
    )
    return Cut(_head(traced, nodes, after, frontier), _tail(traced, nodes, after, frontier))


def _tied(net: nn.Module, layers: set[str]) -> bool:
    """Whether a weight of `layers` goes by a second name, under which it would not change."""
    uses = Counter(id(each) for _, each in net.named_parameters(remove_duplicate=False))
    return any(uses[id(net.get_submodule(name).weight)] > 1 for name in layers)


def _used_otherwise(nodes: Sequence[fx.Node], layers: set[str]) -> bool:
    """Whether a weight of `layers` is read beside the call of its layer."""
    read = {str(node.target).rpartition(".")[0] for node in nodes if node.op == "get_attr"}
    return bool(read & layers)


def _reached(nodes: Sequence[fx.Node], touched: set[fx.Node]) -> set[fx.Node]:
    after = set(touched)
    for node in nodes:
        if any(source in after for source in node.all_input_nodes):
            after.add(node)
    return after


def _head(
    traced: fx.GraphModule, nodes: Sequence[fx.Node], after: set[fx.Node], frontier: list[fx.Node]
) -> fx.GraphModule:
    graph = fx.Graph()
    made: dict[fx.Node, fx.Node] = {}
    for node in nodes:
        if node not in after:
            made[node] = graph.node_copy(node, lambda old: made[old])
    graph.output(tuple(made[node] for node in frontier))
    return _module(traced, graph)


def _tail(
    traced: fx.GraphModule, nodes: Sequence[fx.Node], after: set[fx.Node], frontier: list[fx.Node]
) -> fx.GraphModule:
    graph = fx.Graph()
    made = {node: graph.placeholder(f"held_{place}") for place, node in enumerate(frontier)}
    for node in nodes:
        if node in after or (node.op == "get_attr" and node not in made):
            made[node] = graph.node_copy(node, lambda old: made[old])
    return _module(traced, graph)


def _module(traced: fx.GraphModule, graph: fx.Graph) -> fx.GraphModule:
    module = fx.GraphModule(traced, graph)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def hold(
    divided: Cut, normalised: Iterable[Tensor], count: int, memory: int
) -> list[Tensor] | None:
    """What `head` makes of all `count` images, given in batches; None beyond `memory` bytes.

    None also where something crosses the cut that is no tensor with one row per image.
    """
    held: list[Tensor] | None = None
    start = 0
    with torch.no_grad():
        for images in normalised:
            parts = divided.head(images)
            if not all(_per_image(part, len(images)) for part in parts):
                return None
            if held is None:
                if sum(part[0].nbytes for part in parts) * count > memory:
                    return None
                held = [part.new_empty((count, *part.shape[1:])) for part in parts]
            for kept, part in zip(held, parts, strict=True):
                kept[start : start + len(images)] = part
            start += len(images)
    return held


def _per_image(part: object, count: int) -> bool:
    return isinstance(part, Tensor) and part.dim() > 0 and len(part) == count
