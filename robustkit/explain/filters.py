"""Which filters, and which paths through two layers of filters, make the score."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustkit.errors import ExplainError, did_you_mean
from robustkit.explain.cav import cav
from robustkit.explain.rules import SECANT
from robustkit.explain.trace import Trace


@dataclass(frozen=True, eq=False)
class Paths:
    """`values` (N,I,J): what goes through filter i of one layer and then filter j of another.

    `biases` (N,) is what biases behind the first layer contribute. With a cut at both layers Σ
    values + biases is the score.
    """

    values: Tensor
    biases: Tensor

    def winners(self, count: int = 1) -> Tensor:
        """The (i,j) of the `count` largest paths of each image, best first: int64 (N,count,2)."""
        columns = self.values.shape[2]
        order = torch.sort(self.values.flatten(1), dim=1, descending=True, stable=True).indices
        best = order[:, :count]
        return torch.stack([best // columns, best % columns], dim=2)


def filter_paths(trace: Trace, first: str, second: str) -> Paths:
    """P(i,j) = Σ_u ∂s/∂z_j[u] · (what filter i adds to z_j[u]), z the output of `second`.

    Where `second` is the convolution that sees the maps a of `first`, that is Σ_u ∂s/∂z_j[u]
    (W_ji * a_i)[u], the source's Equation; other pairs go through what lies between as CAV does.
    Both are layers of the trace with channels, `first` before `second`. One backward pass between
    the two per filter j. Raises `ExplainError` for layers that are not so, and as `cav` does.
    """
    for name in (first, second):
        if name not in trace.layers:
            raise ExplainError(f"no layer '{name}' in the trace{did_you_mean(name, trace.layers)}")
        if trace.layers[name].dim() < 2:
            raise ExplainError(f"layer '{name}' has no filters")
    if trace.places[first] >= trace.places[second]:
        raise ExplainError(f"layer '{first}' does not come before '{second}'")
    contributions = cav(trace)  # says what has no convention
    slope = trace.backward(SECANT).slopes[second]
    columns = []
    for filter_ in range(slope.shape[1]):
        alone = torch.zeros_like(slope)
        alone[:, filter_] = slope[:, filter_]
        back = trace.pull(second, first, alone)
        columns.append(_by_filter(trace.layers[first] * back))
    return Paths(torch.stack(columns, dim=2), contributions[first].biases)


def filter_ranking(trace: Trace, layer: str) -> Tensor:
    """What each filter of `layer` contributes to the score: (N,C), Σ over positions of CAV's R.

    In units of the score. Raises `ExplainError` for a layer not in the trace, and as `cav` does.
    """
    if layer not in trace.layers:
        raise ExplainError(f"no layer '{layer}' in the trace{did_you_mean(layer, trace.layers)}")
    return _by_filter(cav(trace)[layer].raw)


def _by_filter(raw: Tensor) -> Tensor:
    return raw.reshape(*raw.shape[:2], -1).sum(dim=2)
