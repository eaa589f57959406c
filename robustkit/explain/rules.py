"""Nonlinear operations whose way back can be chosen after the forward pass.

A net is run once, with these in the place of its own operations. Each backward pass then says by
which rule it goes: the derivative, the secant of CAV, or a rule for ReLUs alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

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
        """The rectified tensor."""
        a = z.clamp_min(0)
        ctx.now = now
        ctx.save_for_backward(a)
        return a

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        """What the rule of the pass lets through.

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
        """f(z); `at_zero` is f(0)."""
        a = f(z)
        ctx.f, ctx.at_zero, ctx.place, ctx.now = f, at_zero, place, now
        ctx.save_for_backward(z, a)
        return a

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None, None]:
        """g·f'(z), or g times the secant; f(0)·Σg is then a bias term."""
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
        """f(x), which is scale·x + shift for these x; `scale`, `shift` spread over x's shape."""
        ctx.f, ctx.place, ctx.now = f, place, now
        ctx.save_for_backward(x, scale, shift)
        return f(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        """The derivative, through the statistics too, or g·scale."""
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
        """f(signal, gates)."""
        ctx.f, ctx.now = f, now
        ctx.save_for_backward(signal, *gates)
        return f(signal, *gates)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        """The derivative of all, or under the secant rule that of the signal alone."""
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
    """(f(z) - f(0)) / z, at 0 itself f'(0)."""
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
    """Below this the slope halfway is nearer to the secant than the quotient's rounding."""
    return float(torch.finfo(dtype).eps ** (1 / 3))
