"""CAV: how much every activation of every layer contributes to the score, with exact biases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import torch
from torch import Tensor, nn

from robustkit.errors import ExplainError, did_you_mean
from robustkit.explain.rules import SECANT
from robustkit.explain.trace import Target, Trace, of_model_or_trace

# Of all that is added up, what rounding may leave; more is no rounding.
CONSERVED = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.05}


@dataclass(frozen=True, eq=False)
class Contribution:
    """What a layer's activations contribute to `score` (N,).

    `activation` and `slope` are of the layer's shape (N,…); their product `raw` is R, in units of
    the score; `ratio` R / score, the source's contribution ratio, whose sign flips where the score
    is negative (not finite where it is 0). `biases` (N,) is what the biases behind the layer
    contribute, and `residual` (N,) what is left of score = Σ raw + biases: rounding at a cut
    (`cut`), but what goes round the layer elsewhere.
    """

    score: Tensor
    activation: Tensor
    slope: Tensor
    biases: Tensor
    cut: bool

    @cached_property
    def raw(self) -> Tensor:
        """activation · slope."""
        return self.activation * self.slope

    @property
    def ratio(self) -> Tensor:
        """raw / score."""
        return self.raw / self.score.view(-1, *[1] * (self.raw.dim() - 1))

    @property
    def residual(self) -> Tensor:
        """score - Σ raw - biases, (N,)."""
        return self.score - self.raw.flatten(1).sum(dim=1) - self.biases

    @property
    def map(self) -> Tensor:
        """Σ over channels of `raw` (N,C,H,W): (N,H,W), both signs kept."""
        return self.raw.sum(dim=1)


@overload
def cav(trace: Trace, *, paper: bool = ...) -> Mapping[str, Contribution]: ...
@overload
def cav(
    model: nn.Module,
    images: Tensor,
    target: Target = ...,
    *,
    layers: Sequence[str] = ...,
    paper: bool = ...,
) -> Mapping[str, Contribution]: ...
@of_model_or_trace
def cav(trace: Trace, *, paper: bool = False) -> Mapping[str, Contribution]:
    """Return contributions at every layer of a trace, by one backward pass.

    No activation is divided by.

    cav(model, images, target, layers=["layer3", "layer4"]) makes the trace itself; "input" is
    always among its layers.

    With β(x_i → y_j) = x_i w_ji / y_j and a bias as an input that is always 1, the ratio of x_i in
    the score is Σ_j β(x_i → y_j) β(y_j → score) (source, Equations 3 to 8). That is x_i · g_i /
    score for slopes g that go back through linear layers as gradients do, through f as its secant
    f(z) / z, and through a max pool to the winner. `paper` gives sigmoid and softplus the secant
    through 0, as Equation 7 does; otherwise their f(0) counts as a bias. Conventions beyond the
    source, which knows neither: the statistics of a normalisation and the gate of a product of two
    activations (a squeezed channel's scale, attention's weights) are the numbers that they are.

    Raises `ExplainError`, naming the module, where the net has an operation without a convention.
    """
    _refuse_external(trace)
    if trace.record.unknown:
        where, what = next(iter(trace.record.unknown.items()))
        raise ExplainError(
            f"CAV has no convention for {what} in '{where or 'the model itself'}': contributions "
            f"through it would be arbitrary{_way_out(what)}"
        )
    found = trace.backward(SECANT, paper=paper)
    contributions = {}
    for name, activation in trace.layers.items():
        behind = [term for place, term in found.terms.items() if place > trace.places[name]]
        contributions[name] = Contribution(
            score=trace.score,
            activation=activation,
            slope=found.slopes[name],
            biases=torch.stack(behind).sum(dim=0) if behind else torch.zeros_like(trace.score),
            cut=name in trace.cut,
        )
        _check_conserved(name, contributions[name], behind)
    return contributions


def _refuse_external(trace: Trace) -> None:
    """Note functions with a way back of their own: they are no operations that we saw."""
    for name in trace.external_functions():
        trace.record.unknown.setdefault("", f"{name}, a function with its own backward,")


def _way_out(what: str) -> str:
    """Return advice on replacing a packaged operation by a plain one, where it is known."""
    if "swish" in what.lower():
        return (
            "; EfficientNet packages have model.set_swish(memory_efficient=False) for a plain one"
        )
    return ""


def _check_conserved(name: str, contribution: Contribution, behind: list[Tensor]) -> None:
    """Raise unless contributions and biases add up to the score at a cut, as they must."""
    if not contribution.cut:
        return
    sizes = contribution.raw.flatten(1).abs().sum(dim=1) + sum(term.abs() for term in behind)
    allowed = CONSERVED[contribution.raw.dtype] * (sizes + contribution.score.abs())
    if not bool((contribution.residual.abs() <= allowed).all()):  # NaN is no agreement
        worst = float(contribution.residual.abs().max())
        raise ExplainError(
            f"CAV misses the score by {worst:.3g} at '{name}': the model does something that is "
            "not seen, or has no convention"
        )


@dataclass(frozen=True, eq=False)
class Paths:
    """`values` (N,I,J): what goes through filter i of one layer and then filter j of another.

    `biases` (N,) is what biases behind the first layer contribute. With a cut at both layers Σ
    values + biases is the score.
    """

    values: Tensor
    biases: Tensor

    def winners(self, count: int = 1) -> Tensor:
        """Return (i,j) of the `count` largest paths of each image, best first: (N,count,2)."""
        columns = self.values.shape[2]
        order = torch.sort(self.values.flatten(1), dim=1, descending=True, stable=True).indices
        best = order[:, :count]
        return torch.stack([best // columns, best % columns], dim=2)


def filter_paths(trace: Trace, first: str, second: str) -> Paths:
    """Return P(i,j) = Σ_u ∂s/∂z_j[u] · (what filter i adds to z_j[u]), z the output of `second`.

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
    """Return what each filter of `layer` contributes to the score: (N,C), CAV's R over positions.

    In units of the score. Raises `ExplainError` for a layer not in the trace, and as `cav` does.
    """
    if layer not in trace.layers:
        raise ExplainError(f"no layer '{layer}' in the trace{did_you_mean(layer, trace.layers)}")
    return _by_filter(cav(trace)[layer].raw)


def _by_filter(raw: Tensor) -> Tensor:
    return raw.reshape(*raw.shape[:2], -1).sum(dim=2)
