"""Fast scoring of tails that are chains of fully connected layers and elementwise functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from robustkit.repair.weights import Selection

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
        """Return the activations of pre-activations of any shape."""
        for function in self.after:
            z = function(z)
        return z


def dense_stages(tail: fx.GraphModule) -> list[Stage] | None:
    """Return the stages of a tail that is such a chain; None for any other tail."""
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


# Floats of the largest tensor of a chunk: what fits beside its result into a core's own cache.
CHUNK = 1 << 19
LEAST_IMAGES = 64


@dataclass(frozen=True, eq=False)
class _Bucket:
    """Rows with about equally many changed entries: `rows` (B,), `columns` and `positions` (B,E).

    `rows` are indices into the stage's output as computed, a slice where they lie together;
    `columns` into its inputs; `positions` are those of the entries' values in (D + 1), whose last
    value is a zero that fills up short rows.
    """

    rows: Tensor | slice
    columns: Tensor
    positions: Tensor


@dataclass(frozen=True, eq=False)
class _Step:
    """One stage, prepared: what changes in it, given what changed before it.

    `inputs` (in, n) are the stage's unchanged inputs; `base` (rows, n) what does not depend on
    the particle; `arriving` the columns whose inputs change, None for none; `crossing` (row,
    position among arriving, position in D) of changed weights on those columns.
    """

    stage: Stage
    inputs: Tensor
    base: Tensor
    shared: Tensor | None
    buckets: tuple[_Bucket, ...]
    crossing: tuple[Tensor, Tensor, Tensor] | None


class Products:
    """Logits of P particles on n images from `cached` (n,d), the input of the first stage."""

    def __init__(self, stages: Sequence[Stage], selection: Selection, cached: Tensor) -> None:
        self.size = len(selection)
        self.images = len(cached)
        self.steps: list[_Step] = []
        inputs, changed = cached, None
        offsets = _offsets(selection)
        for number, stage in enumerate(stages):
            last = number == len(stages) - 1
            outputs = torch.addmm(stage.bias, inputs, stage.weight.T)
            flat = selection.indices.get(stage.name, torch.empty(0, dtype=torch.int64))
            entries = _Entries(stage, flat, offsets.get(stage.name, 0))
            prepared, rows = _prepare(stage, inputs, outputs, entries, changed, last, self.size)
            self.steps.append(prepared)
            inputs, changed = stage.activate(outputs), rows
        self.widest = max(len(step.base) for step in self.steps)

    def work(self) -> float:
        """Return about how many multiplications and memory accesses a particle and image need."""
        total = 0.0
        for step in self.steps:
            padded = sum(bucket.positions.numel() for bucket in step.buckets)
            products = 0 if step.shared is None else step.shared.numel()
            total += 4 * padded + products + 8 * len(step.base)
        return total

    def chunks(self, particles: int) -> tuple[int, int]:
        """Return how many particles and images at a time keep the largest tensor within `CHUNK`."""
        images = max(min(self.images, CHUNK // (self.widest * particles)), 1)
        images = min(max(images, LEAST_IMAGES), self.images)
        return max(min(particles, CHUNK // (self.widest * images)), 1), images

    def logits(self, delta: Tensor, images: slice) -> Tensor:
        """Return logits (K,P,n) on `images`, for changes `delta` (P,D) of the selected weights."""
        padded = torch.cat([delta, delta.new_zeros(len(delta), 1)], dim=1)
        values: Tensor | None = None
        for step in self.steps:
            z = _through(step, padded, values, images)
            values = step.stage.activate(z)
        assert values is not None
        return values


class _Entries:
    """The changed weights of one stage: `rows`, `columns` and `positions` in (D,), all int64."""

    def __init__(self, stage: Stage, flat: Tensor, offset: int) -> None:
        width = stage.weight.shape[1]
        flat = flat.to(stage.weight.device)
        self.rows, self.columns = flat // width, flat % width
        self.positions = offset + torch.arange(len(flat), device=flat.device)

    def at(self, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return rows, columns and positions of the entries where `mask` is True."""
        return self.rows[mask], self.columns[mask], self.positions[mask]


def _offsets(selection: Selection) -> dict[str, int]:
    offsets, start = {}, 0
    for name, count in selection.counts().items():
        offsets[name] = start
        start += count
    return offsets


def _prepare(
    stage: Stage,
    inputs: Tensor,
    outputs: Tensor,
    entries: _Entries,
    changed: Tensor | None,
    last: bool,
    size: int,
) -> tuple[_Step, Tensor]:
    """Return the step, and which of the stage's outputs change, in the order it computes them."""
    everything = torch.arange(len(stage.weight), device=inputs.device)
    if changed is None:
        rows = everything if last else _by_count(entries.rows)
        buckets = _buckets(rows, entries.at(entries.rows >= 0), size, len(everything))
        return _Step(stage, inputs.T, outputs.T[rows].contiguous(), None, buckets, None), rows
    arrived = torch.full((stage.weight.shape[1],), -1, device=inputs.device)
    arrived[changed] = torch.arange(len(changed), device=inputs.device)
    crosses = arrived[entries.columns] >= 0
    shared = stage.weight[:, changed].contiguous()
    base = outputs.T - shared @ inputs.T[changed]
    buckets = _buckets(everything, entries.at(~crosses), size, len(everything))
    crossing = None
    if bool(crosses.any()):
        row, column, position = entries.at(crosses)
        crossing = (row, arrived[column], position)
    return _Step(stage, inputs.T, base, shared, buckets, crossing), everything


def _by_count(rows: Tensor) -> Tensor:
    """Return the distinct rows, those with most entries first, so that buckets are slices."""
    found, counts = torch.unique(rows, return_counts=True)
    ordered: Tensor = found[torch.argsort(counts, descending=True, stable=True)]
    return ordered


def _buckets(
    rows: Tensor, entries: tuple[Tensor, Tensor, Tensor], size: int, height: int
) -> tuple[_Bucket, ...]:
    """Group the entries by rows, and rows by their number of entries up to a factor of two."""
    row, column, position = entries
    if not len(row):
        return ()
    where = torch.full((height,), -1, device=rows.device)
    where[rows] = torch.arange(len(rows), device=rows.device)
    counts = torch.bincount(row, minlength=height)[rows]
    order = torch.argsort(where[row], stable=True)
    row, column, position = where[row][order], column[order], position[order]
    # The rank of each entry within its row.
    start = torch.searchsorted(row, row)
    rank = torch.arange(len(row), device=row.device) - start
    kinds = torch.ceil(torch.log2(counts.clamp_min(1).double())).long()
    kinds[counts == 0] = -1
    buckets = []
    for kind in torch.unique(kinds[kinds >= 0]).tolist():
        members = torch.nonzero(kinds == kind).squeeze(1)
        longest = int(counts[members].max())
        columns = torch.zeros(len(members), longest, dtype=torch.int64, device=row.device)
        positions = torch.full_like(columns, size)
        inverse = torch.full((len(rows),), -1, device=row.device)
        inverse[members] = torch.arange(len(members), device=row.device)
        mine = inverse[row] >= 0
        at = (inverse[row[mine]], rank[mine])
        columns[at], positions[at] = column[mine], position[mine]
        first, final = int(members[0]), int(members[-1])
        together = final - first + 1 == len(members)
        buckets.append(
            _Bucket(slice(first, final + 1) if together else members, columns, positions)
        )
    return tuple(buckets)


def _through(step: _Step, padded: Tensor, values: Tensor | None, images: slice) -> Tensor:
    """Return pre-activations (rows,P,n) of one stage; `values` (R,P,n) are its changed inputs."""
    count = len(padded)
    base = step.base[:, images]
    if step.shared is None or values is None:
        z = base[:, None, :].repeat(1, count, 1)
    elif step.crossing is None:
        z = (step.shared @ values.reshape(len(values), -1)).view(len(base), count, -1)
        z += base[:, None, :]
    else:
        row, column, position = step.crossing
        weights = step.shared.repeat(count, 1, 1)
        weights[:, row, column] += padded[:, position]
        z = torch.bmm(weights, values.transpose(0, 1)).transpose(0, 1).contiguous()
        z += base[:, None, :]
    for bucket in step.buckets:
        delta = padded[:, bucket.positions].transpose(0, 1).contiguous()
        seen = step.inputs[bucket.columns, images]
        if isinstance(bucket.rows, slice):
            z[bucket.rows].baddbmm_(delta, seen)
        else:
            z[bucket.rows] += torch.bmm(delta, seen)
    return z
