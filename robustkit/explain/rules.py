"""Nonlinear operations whose way back can be chosen after the forward pass.

A net is run once, with these in the place of its own operations. Each backward pass then says by
which rule it goes: the derivative, the secant of CAV, or a rule for ReLUs alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Call = Callable[..., Any]
_T = Tensor

RELU: frozenset[Call] = frozenset([F.relu, F.relu_, torch.relu, torch.relu_, _T.relu, _T.relu_])
# Elementwise functions, with the same function out of place, and f(0) of the arguments after z.
SMOOTH: dict[Call, Call] = {}
for _plain, _others in (
    (F.relu6, ()),
    (F.leaky_relu, (F.leaky_relu_,)),
    (F.elu, (F.elu_,)),
    (F.selu, (F.selu_, torch.selu, torch.selu_)),
    (F.celu, (F.celu_, torch.celu, torch.celu_)),
    (F.gelu, ()),
    (F.silu, ()),
    (F.mish, ()),
    (F.hardswish, ()),
    (F.hardsigmoid, ()),
    (F.hardtanh, (F.hardtanh_,)),
    (F.softplus, ()),
    (F.softsign, ()),
    (F.logsigmoid, ()),
    (F.prelu, (torch.prelu, _T.prelu)),
    (torch.sigmoid, (F.sigmoid, torch.sigmoid_, _T.sigmoid, _T.sigmoid_)),
    (torch.tanh, (F.tanh, torch.tanh_, _T.tanh, _T.tanh_)),
):
    for _call in (_plain, *_others):
        SMOOTH[_call] = _plain
ONE_SIDED: dict[Call, Call] = {
    **dict.fromkeys((torch.clamp_min, _T.clamp_min, _T.clamp_min_), torch.clamp_min),
    **dict.fromkeys((torch.clamp_max, _T.clamp_max, _T.clamp_max_), torch.clamp_max),
}
CLAMP: frozenset[Call] = frozenset(
    [torch.clamp, torch.clip, _T.clamp, _T.clip, _T.clamp_, *ONE_SIDED]
)
BIASED: frozenset[Call] = frozenset(
    [
        F.linear,
        F.conv1d,
        F.conv2d,
        F.conv3d,
        F.conv_transpose1d,
        F.conv_transpose2d,
        F.conv_transpose3d,
    ]
)
NORMS: frozenset[Call] = frozenset([F.layer_norm, F.group_norm, F.instance_norm])
ADDING: frozenset[Call] = frozenset(
    [torch.add, _T.add, _T.add_, _T.__add__, _T.__iadd__, _T.__radd__]
)
SUBTRACTING: frozenset[Call] = frozenset(
    [torch.sub, torch.subtract, _T.sub, _T.sub_, _T.__sub__, _T.__isub__]
)
REVERSED: frozenset[Call] = frozenset([_T.__rsub__, torch.rsub])
ELEMENTWISE_PRODUCTS: frozenset[Call] = frozenset(
    [torch.mul, torch.multiply, _T.mul, _T.mul_, _T.__mul__, _T.__imul__, _T.__rmul__]
)
SCALING: frozenset[Call] = frozenset(
    [
        *ELEMENTWISE_PRODUCTS,
        *(torch.matmul, torch.mm, torch.bmm, _T.matmul, _T.__matmul__, _T.mm, _T.bmm),
    ]
)
# Bounded functions, of which a product of two activations has its gate.
GATING: frozenset[Call] = frozenset(
    [
        *(call for call, plain in SMOOTH.items() if plain in (torch.sigmoid, torch.tanh)),
        *(F.hardsigmoid, F.relu6, F.hardtanh, F.hardtanh_, torch.erf, _T.erf),
        *(F.softmax, torch.softmax, _T.softmax),
    ]
)
DIVIDING: frozenset[Call] = frozenset(
    [torch.div, torch.divide, _T.div, _T.div_, _T.__truediv__, _T.__itruediv__]
)
# Linear or routing, with nothing added: autograd's own way back is the contribution's.
PASSIVE: frozenset[Call] = frozenset(
    [
        *(torch.flatten, torch.reshape, torch.permute, torch.transpose, torch.squeeze),
        *(torch.unsqueeze, torch.chunk, torch.split, torch.cat, torch.concat, torch.stack),
        *(torch.sum, torch.mean, torch.movedim, torch.narrow, torch.roll, torch.neg),
        *(torch.clone, torch.index_select, torch.channel_shuffle),
        *(_T.flatten, _T.reshape, _T.view, _T.permute, _T.transpose, _T.squeeze, _T.unsqueeze),
        *(_T.chunk, _T.split, _T.sum, _T.mean, _T.contiguous, _T.clone, _T.expand, _T.neg),
        *(_T.__getitem__, _T.__neg__, _T.narrow, _T.movedim, _T.float, _T.double, _T.to),
        *(_T.expand_as, _T.view_as, _T.reshape_as, _T.repeat, _T.index_select, _T.unflatten),
        *(_T.t, torch.t, torch.adaptive_avg_pool1d, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d),
        *(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d),
        *(F.max_pool1d, F.max_pool2d, F.max_pool3d, torch.max_pool1d, torch.max_pool2d),
        *(torch.max_pool3d, F.adaptive_max_pool2d, torch.adaptive_max_pool1d),
        *(F.interpolate, F.upsample, F.pixel_shuffle, torch.pixel_shuffle, F.pixel_unshuffle),
        *(F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.unfold, F.fold),
        *(F.feature_alpha_dropout, F.pad, torch.amax, _T.amax),
        *(
            torch.gather,
            _T.gather,
            torch.take_along_dim,
            _T.take_along_dim,
            torch.select,
            _T.select,
        ),
        *(torch.flip, _T.flip, _T.roll, torch.unbind, _T.unbind, torch.ravel, _T.ravel, torch.tile),
        *(_T.tile, torch.repeat_interleave, _T.repeat_interleave, torch.broadcast_to),
        *(_T.broadcast_to, torch.swapaxes, _T.swapaxes, _T.type_as, F.grid_sample),
    ]
)
# Behind these gates are gates, of one operand and constants.
KEEPS_GATES: frozenset[Call] = frozenset(
    [*PASSIVE, *ADDING, *SUBTRACTING, *REVERSED, *DIVIDING, *ELEMENTWISE_PRODUCTS]
)
# Of their second operand they take shape or type alone.
LIKE_ANOTHER: frozenset[Call] = frozenset([_T.expand_as, _T.view_as, _T.reshape_as, _T.type_as])
JOINING: frozenset[Call] = frozenset([torch.cat, torch.concat, torch.stack])
IN_PLACE: frozenset[Call] = frozenset(
    [
        *(F.relu_, torch.relu_, F.leaky_relu_, F.elu_, F.selu_, torch.selu_, F.celu_),
        *(torch.celu_, F.hardtanh_, torch.sigmoid_, torch.tanh_, _T.relu_, _T.sigmoid_, _T.tanh_),
        *(
            _T.clamp_,
            _T.clamp_min_,
            _T.clamp_max_,
            _T.add_,
            _T.__iadd__,
            _T.sub_,
            _T.__isub__,
            _T.mul_,
            _T.__imul__,
            _T.div_,
        ),
        _T.__itruediv__,
    ]
)
OUT_OF_PLACE: dict[Call, Call] = {
    _T.add_: torch.add,
    _T.__iadd__: torch.add,
    _T.sub_: torch.sub,
    _T.__isub__: torch.sub,
    _T.mul_: torch.mul,
    _T.__imul__: torch.mul,
    _T.div_: torch.div,
    _T.__itruediv__: torch.div,
    _T.clamp_: torch.clamp,
}


def gate_of(func: Call, args: tuple[Any, ...], gates: Collection[int]) -> int | None:
    """Return which operand, 0 or 1, of a product of two activations is its gate, None if unclear.

    Of an elementwise product that is the one which is spread over the other, as a channel's scale
    is over its map; otherwise the one that comes of a bounded function, its identity in `gates`.
    """
    if func not in SCALING or len(args) != 2:
        return None
    if func in ELEMENTWISE_PRODUCTS:
        shape = torch.Size(np.broadcast_shapes(*(tuple(each.shape) for each in args)))
        spread = [each.shape != shape for each in args]
        if any(spread):
            return spread.index(True) if sum(spread) == 1 else None
    bounded = [id(each) in gates for each in args]
    return bounded.index(True) if sum(bounded) == 1 else None


def at_zero(f: Call, z: Tensor) -> float:
    """Return f(0) of an elementwise function."""
    shape = [1, z.shape[1], *[1] * (z.dim() - 2)] if z.dim() > 1 else [1]
    value = float(f(z.new_zeros(shape)).flatten()[0])
    return 0.0 if math.isnan(value) else value


Function = Callable[[Tensor], Tensor]

GRADIENT = "gradient"
SECANT = "secant"
RELU_RULES = ("deconvnet", "guided", "guided-minus")


@dataclass(eq=False)
class Pass:
    """The backward pass in progress: its rule, and what biases add to the score on the way.

    `terms` maps the place of an operation in the forward pass to Σ bias · g, (N,) each. `paper`
    lets functions with f(0) ≠ 0, such as the sigmoid, pass all of f(z) on to z, as Equation 7 of
    the source does; otherwise f(0) is a bias.
    """

    rule: str = GRADIENT
    paper: bool = False
    terms: dict[int, Tensor] = field(default_factory=dict)

    def add(self, place: int, term: Tensor) -> None:
        """Count a bias term (N,) of the operation at `place`."""
        known = self.terms.get(place)
        self.terms[place] = term if known is None else known + term


class Relu(torch.autograd.Function):
    """max(z, 0); secant and derivative are the same."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, now: Pass) -> Tensor:
        """Return the rectified tensor."""
        a = z.clamp_min(0)
        ctx.now = now
        ctx.save_for_backward(a)
        return a

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        """Return what the rule of the pass lets through.

        deconvnet g⁺ (Zeiler & Fergus 2014), guided g⁺·[z>0] (Springenberg et al. 2015),
        guided-minus g⁻·[z>0].
        """
        (a,) = ctx.saved_tensors
        rule = ctx.now.rule
        if rule == "deconvnet":
            return g.clamp_min(0), None
        if rule == "guided":
            g = g.clamp_min(0)
        elif rule == "guided-minus":
            g = g.clamp_max(0)
        return torch.ops.aten.threshold_backward(g, a, 0), None


class Smooth(torch.autograd.Function):
    """An elementwise f: derivative, or the secant (f(z) - f(0)) / z through f(0) and f(z).

    The rules for ReLUs do not concern it: it passes the derivative then.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, f: Function, at_zero: float, place: int, now: Pass) -> Tensor:
        """Return f(z); `at_zero` is f(0)."""
        a = f(z)
        ctx.f, ctx.at_zero, ctx.place, ctx.now = f, at_zero, place, now
        ctx.save_for_backward(z, a)
        return a

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None, None]:
        """Return g·f'(z), or g times the secant; f(0)·Σg is then a bias term."""
        z, a = ctx.saved_tensors
        if ctx.now.rule != SECANT:
            return _derivative(ctx.f, z) * g, None, None, None, None
        zeroth = ctx.at_zero
        if zeroth and ctx.now.paper:
            # All of f(z) is passed on, but at 0 itself, through which nothing goes.
            nowhere = z == 0
            ctx.now.add(ctx.place, zeroth * (g * nowhere).reshape(len(g), -1).sum(dim=1))
            slope = torch.where(nowhere, 0.0, a / torch.where(nowhere, 1.0, z))
            return slope * g, None, None, None, None
        if zeroth:
            ctx.now.add(ctx.place, zeroth * g.reshape(len(g), -1).sum(dim=1))
        return _secant(ctx.f, z, a, zeroth) * g, None, None, None, None


class Frozen(torch.autograd.Function):
    """A normalisation with statistics of its own input: LayerNorm, GroupNorm, InstanceNorm.

    Under the secant rule the statistics are frozen: y = scale·x + shift, `shift` a bias.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, f: Function, scale: Tensor, shift: Tensor, place: int, now: Pass
    ) -> Tensor:
        """Return f(x), which is scale·x + shift for these x, both broadcast to x's shape."""
        ctx.f, ctx.place, ctx.now = f, place, now
        ctx.save_for_backward(x, scale, shift)
        return f(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        """Return the derivative, through the statistics too, or g·scale."""
        x, scale, shift = ctx.saved_tensors
        nothing = (None, None, None, None, None)
        if ctx.now.rule == SECANT:
            ctx.now.add(ctx.place, (g * shift).reshape(len(g), -1).sum(dim=1))
            return (g * scale, *nothing)
        with torch.enable_grad():
            leaf = x.detach().requires_grad_(True)
            (found,) = torch.autograd.grad(ctx.f(leaf), leaf, g)
        return (found, *nothing)


class Gate(torch.autograd.Function):
    """f(signal, gates), linear in the signal: a squeezed channel's scale, attention's weights.

    Under the secant rule gates are the numbers that they are for this image, as the statistics of a
    normalisation are, and the whole product is the signal's (signal-take-all, Arras et al. 2017).
    """

    @staticmethod
    def forward(
        ctx: Any, f: Callable[..., Tensor], now: Pass, signal: Tensor, *gates: Tensor
    ) -> Tensor:
        """Return f(signal, gates)."""
        ctx.f, ctx.now = f, now
        ctx.save_for_backward(signal, *gates)
        return f(signal, *gates)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        """Return the derivative of all, or under the secant rule that of the signal alone."""
        inputs = ctx.saved_tensors
        wanted = 1 if ctx.now.rule == SECANT else len(inputs)
        with torch.enable_grad():
            leaves = [
                each.detach().requires_grad_(place < wanted) for place, each in enumerate(inputs)
            ]
            found = torch.autograd.grad(ctx.f(*leaves), leaves[:wanted], g)
        return (None, None, *found, *[None] * (len(inputs) - wanted))


def _derivative(f: Function, z: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = z.detach().requires_grad_(True)
        (found,) = torch.autograd.grad(f(leaf).sum(), leaf)
    return found


def _secant(f: Function, z: Tensor, a: Tensor, zeroth: float) -> Tensor:
    """Return (f(z) - f(0)) / z, at 0 itself f'(0)."""
    if not zeroth:  # nothing cancels
        at = z == 0
        slope = a / torch.where(at, torch.ones_like(z), z)
        return torch.where(at, _derivative(f, z), slope) if bool(at.any()) else slope
    # The quotient cancels close to 0: more digits, and where they too run out the slope halfway,
    # which differs from it by O(z²) alone.
    fine = (z.cpu() if z.device.type == "mps" else z).double()  # which MPS has not
    near = fine.abs() < _nearness(fine.dtype)
    start = f(torch.zeros_like(fine[:1]))
    slope = (f(fine) - start) / torch.where(near, torch.ones_like(fine), fine)
    return torch.where(near, _derivative(f, fine / 2), slope).to(z)


def _nearness(dtype: torch.dtype) -> float:
    """Return |z| below which the slope at z/2 is more exact than the quotient is rounded."""
    return float(torch.finfo(dtype).eps ** (1 / 3))
