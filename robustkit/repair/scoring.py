"""Scores of many candidate repairs on many images, by the cheapest way that the net allows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

from robustkit.compute import device_of
from robustkit.data import ImageSet, batches
from robustkit.errors import RepairError
from robustkit.models.state import state_preserved
from robustkit.repair.dense import Products, dense_stages
from robustkit.repair.weights import Selection, net_of, seen_by_net, weight_of


@dataclass(frozen=True, eq=False)
class Cut:
    """`head` maps normalised images to a tuple of tensors (n,…), `tail` maps those to logits.

    Every weight that is to be changed is in `tail`, under the name it has in the net.
    """

    head: fx.GraphModule
    tail: fx.GraphModule

    def logits(self, cached: Sequence[Tensor], weights: Mapping[str, Tensor]) -> Tensor:
        """Return logits (n,K) from the outputs of `head`, with `weights` by parameter name."""
        logits: Tensor = functional_call(self.tail, dict(weights), tuple(cached))
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
    """Return whether a weight of `layers` has a second name, under which it would not change."""
    uses = Counter(id(each) for _, each in net.named_parameters(remove_duplicate=False))
    return any(uses[id(net.get_submodule(name).weight)] > 1 for name in layers)


def _used_otherwise(nodes: Sequence[fx.Node], layers: set[str]) -> bool:
    """Return whether a weight of `layers` is read beside the call of its layer."""
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
    copies: dict[fx.Node, fx.Node] = {}
    for node in nodes:
        if node not in after:
            copies[node] = graph.node_copy(node, lambda old: copies[old])
    graph.output(tuple(copies[node] for node in frontier))
    return _module(traced, graph)


def _tail(
    traced: fx.GraphModule, nodes: Sequence[fx.Node], after: set[fx.Node], frontier: list[fx.Node]
) -> fx.GraphModule:
    graph = fx.Graph()
    copies = {node: graph.placeholder(f"held_{place}") for place, node in enumerate(frontier)}
    for node in nodes:
        if node in after or (node.op == "get_attr" and node not in copies):
            copies[node] = graph.node_copy(node, lambda old: copies[old])
    return _module(traced, graph)


def _module(traced: fx.GraphModule, graph: fx.Graph) -> fx.GraphModule:
    module = fx.GraphModule(traced, graph)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def cached_activations(
    divided: Cut, normalised: Iterable[Tensor], count: int, memory: int
) -> list[Tensor] | None:
    """Return the outputs of `head` for `count` images in batches; None beyond `memory` bytes.

    None also where something crosses the cut that is no tensor with one row per image.
    """
    cached: list[Tensor] | None = None
    start = 0
    with torch.no_grad():
        for images in normalised:
            activations = divided.head(images)
            if not all(_per_image(activation, len(images)) for activation in activations):
                return None
            if cached is None:
                if sum(activation[0].nbytes for activation in activations) * count > memory:
                    return None
                cached = [
                    activation.new_empty((count, *activation.shape[1:]))
                    for activation in activations
                ]
            for kept, activation in zip(cached, activations, strict=True):
                kept[start : start + len(images)] = activation
            start += len(images)
    return cached


def _per_image(activation: object, count: int) -> bool:
    return isinstance(activation, Tensor) and activation.dim() > 0 and len(activation) == count


BATCH = 250
MEMORY = 1 << 30  # bytes that activations before the first changed layer may take
# Self-check of a traced tail: it must give the net's own logits, up to rounding.
AGREE = 1e-3


class Scorer(ABC):
    """Base of the scorers of P candidates on n images; `way` is a scorer's name.

    A candidate is a vector (D,) of values of the selected weights; scores are of the whole net
    with those values in place, in evaluation mode.
    """

    way: str

    def __init__(self, model: nn.Module, images: ImageSet, selection: Selection) -> None:
        self.model, self.images, self.selection = model, images, selection
        self.device = device_of(model)
        self.labels = images.labels.to(self.device)
        self.current = selection.values(model).to(self.device)

    @abstractmethod
    def parts(self, values: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
        """Yield logits of candidates (P,D) in parts: which candidates, which images, (K,p,m)."""

    @torch.no_grad()
    def logits(self, values: Tensor) -> Tensor:
        """Return all logits (P,n,K) of candidates (P,D), for tests: the search keeps fewer."""
        everything: Tensor | None = None
        for candidates, images, logits in self.parts(values.to(self.device)):
            if everything is None:
                everything = logits.new_empty(len(values), len(self.images), len(logits))
            everything[candidates, images] = logits.permute(1, 2, 0)
        if everything is None:
            raise RepairError("no logits: there are no candidates, or no images")
        return everything.cpu()

    @torch.no_grad()
    def score(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return whether each candidate is right, bool (P,n), and cross-entropies in nats (P,n)."""
        shape = (len(values), len(self.images))
        right = torch.empty(shape, dtype=torch.bool, device=self.device)
        loss = torch.empty(shape, device=self.device)
        for candidates, images, logits in self.parts(values.to(self.device)):
            labels = self.labels[images].expand(1, logits.shape[1], -1)
            highest, predicted = logits.max(dim=0)
            correct = logits.gather(0, labels)[0]
            # NaN counts as the highest, and is no prediction.
            right[candidates, images] = (predicted == labels[0]) & (correct >= highest)
            rest = logits.sub_(highest).exp_().sum(dim=0).log_()
            loss[candidates, images] = rest + highest - correct
        return right.cpu(), loss.cpu()


class ProductScorer(Scorer):
    """Batched products over touched rows and columns: the tail is a dense chain."""

    way = "products"

    def __init__(
        self, model: nn.Module, images: ImageSet, selection: Selection, products: Products
    ) -> None:
        super().__init__(model, images, selection)
        self.products = products

    def parts(self, values: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
        """See `Scorer.parts`."""
        delta = values - self.current
        particles, images = self.products.chunks(len(values))
        for first in range(0, len(self.images), images):
            rows = slice(first, min(first + images, len(self.images)))
            for start in range(0, len(values), particles):
                candidates = slice(start, min(start + particles, len(values)))
                yield candidates, rows, self.products.logits(delta[candidates], rows)


class TailScorer(Scorer):
    """One pass of the traced tail per candidate, from activations computed once."""

    way = "tail"

    def __init__(
        self,
        model: nn.Module,
        images: ImageSet,
        selection: Selection,
        divided: Cut,
        cached: list[Tensor],
    ) -> None:
        super().__init__(model, images, selection)
        self.divided, self.cached = divided, cached

    def parts(self, values: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
        """See `Scorer.parts`."""
        for number, candidate in enumerate(values):
            weights = _substituted(self.model, self.selection, candidate)
            with state_preserved(self.model):
                for start in range(0, len(self.images), BATCH):
                    rows = slice(start, min(start + BATCH, len(self.images)))
                    logits = self.divided.logits([each[rows] for each in self.cached], weights)
                    yield slice(number, number + 1), rows, logits.T[:, None].contiguous()


class WholeScorer(Scorer):
    """One forward pass of the whole net per candidate: nothing can be cached."""

    way = "whole"

    def parts(self, values: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
        """See `Scorer.parts`."""
        for number, candidate in enumerate(values):
            weights = _substituted(self.model, self.selection, candidate)
            with state_preserved(self.model):
                for start in range(0, len(self.images), BATCH):
                    rows = slice(start, min(start + BATCH, len(self.images)))
                    pixels = self.images.floats(torch.arange(rows.start, rows.stop))
                    shown = seen_by_net(self.model, pixels.to(self.device))
                    logits = functional_call(net_of(self.model), weights, (shown,))
                    yield slice(number, number + 1), rows, logits.T[:, None].contiguous()


def make_scorer(
    model: nn.Module,
    images: ImageSet,
    selection: Selection,
    *,
    memory: int = MEMORY,
    ways: tuple[str, ...] = ("products", "tail", "whole"),
) -> Scorer:
    """Return the cheapest scorer of `ways` for other values of `selection` in `model`.

    "products" where all that comes after the first selected weight is a chain of fully connected
    layers, and no cheaper as a loop; "tail" where the net's code can be traced and the activations
    before that weight fit into `memory` bytes; "whole" always.
    """
    with state_preserved(model):  # tracing sees evaluation mode
        divided = cut(net_of(model), selection.indices) if set(ways) - {"whole"} else None
    cached = None if divided is None else _checked_activations(model, images, divided, memory)
    if divided is not None and cached is not None:
        stages = dense_stages(divided.tail) if "products" in ways and len(cached) == 1 else None
        if stages is not None and cached[0].dim() == 2:
            with torch.no_grad():
                products = Products(stages, selection, cached[0])
            loop = sum(2 * stage.weight.numel() for stage in stages)
            if products.work() < loop or "tail" not in ways:
                return ProductScorer(model, images, selection, products)
        if "tail" in ways:
            return TailScorer(model, images, selection, divided, cached)
    return WholeScorer(model, images, selection)


def _checked_activations(
    model: nn.Module, images: ImageSet, divided: Cut, memory: int
) -> list[Tensor] | None:
    """Return the activations at the cut; None unless the tail gives the net's own logits."""
    device = device_of(model)

    def shown() -> Iterator[Tensor]:
        for rows in batches(len(images), BATCH):
            yield seen_by_net(model, images.floats(rows).to(device))

    with state_preserved(model):
        cached = cached_activations(divided, shown(), len(images), memory)
        if cached is None or not _gives_own_logits(model, divided, cached, shown()):
            return None
    return cached


@torch.no_grad()
def _gives_own_logits(
    model: nn.Module, divided: Cut, cached: list[Tensor], normalised: Iterator[Tensor]
) -> bool:
    """Return whether the tail gives the logits of the whole net for every image."""
    start = 0
    for shown in normalised:
        expected = net_of(model)(shown)
        activations = [each[start : start + len(shown)] for each in cached]
        # Twice: a tail that writes into what it is given differs the second time.
        for _ in range(2):
            logits = divided.logits(activations, {})
            if logits.shape != expected.shape or not torch.allclose(logits, expected, AGREE, AGREE):
                return False
        start += len(shown)
    return True


def _substituted(model: nn.Module, selection: Selection, values: Tensor) -> dict[str, Tensor]:
    """Return the weights of the selected layers with `values` (D,) in place, by parameter name."""
    weights = {}
    for name, changes in selection.split(values).items():
        weight = weight_of(model, name)
        changed = weight.detach().clone().flatten()
        changed[selection.indices[name].to(changed.device)] = changes
        weights[f"{name}.weight"] = changed.view_as(weight)
    return weights
