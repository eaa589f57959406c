"""Geometry of the ε-ball: steepest steps, random points and projections, per image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# A gradient whose norm is below this has no direction; it is left zero rather than blown up.
TINY = 1e-12


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
    """(N,) as (N,1,1,1), to be multiplied with images."""
    return values.view(-1, 1, 1, 1)


def _l2_size(delta: Tensor) -> Tensor:
    return delta.flatten(1).norm(dim=1)


def _l2_steepest(gradient: Tensor) -> Tensor:
    return gradient / per_image(_l2_size(gradient).clamp_min(TINY))


def _l2_project(delta: Tensor, eps: float) -> Tensor:
    return delta * per_image((eps / _l2_size(delta).clamp_min(TINY)).clamp_max(1.0))


def _l2_random(shape: tuple[int, ...], eps: float, generator: torch.Generator) -> Tensor:
    # Uniform in the ball: a uniform direction times the d-th root of a uniform radius.
    direction = _l2_steepest(torch.randn(shape, generator=generator))
    radius = torch.rand(shape[0], generator=generator)
    return direction * per_image(eps * radius ** (1.0 / direction[0].numel()))


def _linf_random(shape: tuple[int, ...], eps: float, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator).mul_(2 * eps).sub_(eps)


NORMS: dict[str, Norm] = {
    "linf": Norm(
        name="linf",
        size=lambda delta: delta.flatten(1).abs().amax(dim=1),
        steepest=torch.sign,
        project=lambda delta, eps: delta.clamp(-eps, eps),
        random=_linf_random,
    ),
    "l2": Norm("l2", _l2_size, _l2_steepest, _l2_project, _l2_random),
}
