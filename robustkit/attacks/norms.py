"""Geometry of the ε-ball: steepest steps, random points and projections, per image."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from robustkit.errors import AttackError
from robustkit.registry import Registry

# The least normal float32: what divides may not be smaller, so that zero stays zero.
TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class Norm:
    """One norm on (N,C,H,W) perturbations; every function treats each image on its own.

    `size(d)` -> (N,); `steepest(g)` -> unit step that ascends g; `project(d, eps)` -> nearest
    point of the ball; `random(shape, eps, generator)` -> a random point of the ball.
    """

    name: str
    size: Callable[[Tensor], Tensor]
    steepest: Callable[[Tensor], Tensor]
    project: Callable[[Tensor, float], Tensor]
    random: Callable[[tuple[int, ...], float, torch.Generator], Tensor]


def per_image(values: Tensor) -> Tensor:
    """Return (N,) reshaped to (N,1,1,1), to be multiplied with images."""
    return values.view(-1, 1, 1, 1)


def _l2_size(delta: Tensor) -> Tensor:
    size: Tensor = torch.linalg.vector_norm(delta.flatten(1), dim=1)
    return size


def _l2_steepest(gradient: Tensor) -> Tensor:
    # By the largest entry first: a confident net's gradients underflow when they are squared.
    peak = gradient.flatten(1).abs().amax(dim=1).clamp_min(TINY)
    scaled = gradient / per_image(peak)
    return scaled / per_image(_l2_size(scaled).clamp_min(TINY))


def _l2_project(delta: Tensor, eps: float) -> Tensor:
    return delta * per_image((eps / _l2_size(delta).clamp_min(TINY)).clamp_max(1.0))


def _l2_random(shape: tuple[int, ...], eps: float, generator: torch.Generator) -> Tensor:
    # Uniform in the ball: a uniform direction times the d-th root of a uniform radius.
    # One stream of uniform numbers, image after image: `randn` draws in blocks, and what an image
    # got would depend on the size of its batch.
    count, size = shape[0], math.prod(shape[1:])
    drawn = torch.rand(count, size + 1, generator=generator, dtype=torch.float64)
    normal = torch.special.ndtri(drawn[:, 1:].clamp_min(2.0**-54))
    radius = eps * drawn[:, 0] ** (1.0 / size)
    return _l2_steepest(normal.view(shape)).float() * per_image(radius.float())


def _linf_random(shape: tuple[int, ...], eps: float, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator).mul_(2 * eps).sub_(eps)


_LINF = Norm(
    name="linf",
    size=lambda delta: delta.flatten(1).abs().amax(dim=1),
    steepest=torch.sign,
    project=lambda delta, eps: delta.clamp(-eps, eps),
    random=_linf_random,
)
_L2 = Norm("l2", _l2_size, _l2_steepest, _l2_project, _l2_random)

NORMS: Registry[Norm] = Registry("norm", AttackError, {"linf": _LINF, "l2": _L2})
