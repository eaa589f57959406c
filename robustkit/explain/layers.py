"""Which places of a net are looked at: by name, by type, or found."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from robustkit.errors import ExplainError
from robustkit.explain.recording import Record, Step

AUTO = "auto"
INPUT = "input"
SHRINKS = 1.6
# Operations with weights: what a stage is made of.
LEARNT = frozenset(
    [
        *("linear", "conv1d", "conv2d", "conv3d", "matmul", "__matmul__", "bmm", "mm"),
        *("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
    ]
)


def wanted_modules(net: nn.Module, layers: Sequence[str]) -> list[str]:
    """The modules that `layers` name: their own names, or those of a type, in the net's order.

    Raises `ExplainError` for what is neither, with the closest names.
    """
    names = [name for name, _ in net.named_modules() if name]
    types = {name: type(net.get_submodule(name)).__name__ for name in names}
    chosen: set[str] = set()
    for layer in layers:
        if layer in (AUTO, INPUT):
            continue
        # A classifier's net has names of its own, which is what its maker knows.
        whole = f"net.{layer}"
        found = [name for name in names if name in (layer, whole) or types[name] == layer]
        if not found:
            known = [AUTO, INPUT, *dict.fromkeys(types.values()), *names]
            near = difflib.get_close_matches(layer, known, n=5, cutoff=0.0)
            raise ExplainError(f"no layer '{layer}'; the closest names are {', '.join(near)}")
        chosen |= set(found)
    return [name for name in names if name in chosen]


def cuts(record: Record, image: int) -> list[int]:
    """Places of steps after which all that is known of the image is in one tensor.

    `image` is the identity of the image's own tensor. A block's output is such a place, the inside
    of a residual branch is not.
    """
    last_use = {image: -1}
    for place, step in enumerate(record.steps):
        for each in step.inputs:
            last_use[each] = place
    found, alive = [], {image}
    for place, step in enumerate(record.steps):
        alive |= set(step.outputs)
        alive = {each for each in alive if last_use.get(each, -1) > place}
        if len(alive) == 1 and set(step.outputs) == alive:
            found.append(place)
    return found


def automatic(record: Record, tensors: Mapping[int, Tensor], image: int) -> dict[str, int]:
    """The last cut of every stage: name to identity of the tensor, in the net's order.

    A stage ends where maps shrink by `SHRINKS` or more from one cut to the next, as by a pool or a
    stride; a border that a convolution loses is none. Pooling alone makes no stage: in a net with
    five pooling stages those are the five maps that are pooled. Maps whose channels come last
    are left out. A cut is called by the outermost module that gives it.
    """
    chosen: list[tuple[int, int]] = []  # (place, height) of the last cut of each stage so far
    for place in cuts(record, image):
        made = record.steps[place].outputs[0]
        tensor = tensors[made]
        if tensor.dim() != 4 or min(tensor.shape[2:]) < 2 or record.axis.get(made, 1) != 1:
            continue
        if made in record.rows:
            continue
        height = tensor.shape[2]
        before, above = chosen[-1] if chosen else (-1, math.inf)
        if above / height < SHRINKS:
            chosen.pop()
        elif not any(step.name in LEARNT for step in record.steps[before + 1 : place + 1]):
            continue
        chosen.append((place, height))
    steps = [record.steps[place] for place, _ in chosen]
    return {_called(step, record): step.outputs[0] for step in steps}


def _called(step: Step, record: Record) -> str:
    module = record.given.get(step.outputs[0], step.module)
    alike = [each for each in record.steps if each.module == step.module]
    inner = f"{step.name}_{alike.index(step)}"
    if step.outputs[0] in record.given and module:
        return module
    return f"{module}.{inner}" if module else inner
