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


def of_unit_peak(gradient: Tensor) -> Tensor:
    """Return every image's gradient divided by its largest entry; zero where it is zero."""
    peak = gradient.flatten(1).abs().amax(dim=1).clamp_min(TINY)
    return gradient / per_image(peak)


def _l2_steepest(gradient: Tensor) -> Tensor:
    # By the largest entry first: a confident net's gradients underflow when they are squared.
    scaled = of_unit_peak(gradient)
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


def _l1_size(delta: Tensor) -> Tensor:
    return delta.flatten(1).abs().sum(dim=1)


SPARSE = 0.01  # share of the pixels' values that an l1 step moves (Tramèr and Boneh 2019)


def _l1_steepest(gradient: Tensor) -> Tensor:
    flat = gradient.flatten(1)
    count = max(1, round(SPARSE * flat.shape[1]))
    return sparse_sign(gradient, torch.full((len(flat),), count, device=flat.device))


def sparse_sign(gradient: Tensor, counts: Tensor) -> Tensor:
    """Return the signs of the `counts` (N,) largest entries of each image's gradient, of l1 norm 1.

    Zero where the gradient is.
    """
    flat = gradient.flatten(1)
    order = flat.abs().argsort(dim=1, descending=True, stable=True)
    place = torch.arange(flat.shape[1], device=flat.device)
    among = torch.zeros_like(flat).scatter(1, order, (place < counts[:, None]).to(flat))
    step = flat.sign() * among
    return (step / step.abs().sum(dim=1, keepdim=True).clamp_min(1)).view_as(gradient)


def _l1_project(delta: Tensor, eps: float) -> Tensor:
    return l1_project(delta, eps, -torch.inf, torch.inf)


def l1_project(delta: Tensor, eps: float, low: Tensor | float, high: Tensor | float) -> Tensor:
    """Return the nearest points of the l1 ball whose entries are in [low, high], which holds zero.

    Magnitudes are shrunk by one threshold an image, found by bisection, and cut off (Croce and
    Hein 2021, proposition 2.1).
    """
    wide = delta.flatten(1).double()
    least, most = (
        torch.as_tensor(each).expand_as(delta).flatten(1).to(wide) for each in (low, high)
    )

    def at(threshold: Tensor) -> Tensor:
        shrunk = wide.sign() * (wide.abs() - threshold[:, None]).clamp_min(0)
        return shrunk.clamp(least, most)

    below = torch.zeros(len(wide), dtype=torch.float64, device=wide.device)
    above = wide.abs().amax(dim=1) if wide.numel() else below
    inside = at(below).abs().sum(dim=1) <= eps
    for _ in range(60):
        middle = (below + above) / 2
        fits = at(middle).abs().sum(dim=1) <= eps
        below, above = torch.where(fits, below, middle), torch.where(fits, middle, above)
    found = at(torch.where(inside, torch.zeros_like(above), above))
    return found.to(delta).view_as(delta)


def _l1_random(shape: tuple[int, ...], eps: float, generator: torch.Generator) -> Tensor:
    # Exponential magnitudes, one more than there are entries, make a uniform point of the simplex.
    count, size = shape[0], math.prod(shape[1:])
    drawn = torch.rand(count, 2 * size + 1, generator=generator, dtype=torch.float64)
    magnitudes = -torch.log1p(-drawn[:, : size + 1])
    inside = magnitudes[:, :size] / magnitudes.sum(dim=1, keepdim=True)
    signs = torch.where(drawn[:, size + 1 :] < 0.5, -1.0, 1.0)
    return (eps * signs * inside).float().view(shape)


def _l0_size(delta: Tensor) -> Tensor:
    changed = (delta != 0).any(dim=1).flatten(1)
    return changed.double().mean(dim=1).to(delta)


def _l0_project(delta: Tensor, eps: float) -> Tensor:
    strength = delta.square().sum(dim=1).flatten(1)
    count = int(eps * strength.shape[1] + 1e-6)
    kept = torch.zeros_like(strength).scatter(1, strength.topk(count, dim=1).indices, 1.0)
    return delta * kept.view(len(delta), 1, *delta.shape[2:])


def _l0_random(shape: tuple[int, ...], eps: float, generator: torch.Generator) -> Tensor:
    count, channels, *sides = shape
    drawn = torch.rand(count, channels + 1, *sides, generator=generator)
    places = drawn[:, channels].flatten(1).argsort(dim=1)
    chosen = places < int(eps * places.shape[1] + 1e-6)
    return (2 * drawn[:, :channels] - 1) * chosen.view(count, 1, *sides)


_LINF = Norm(
    name="linf",
    size=lambda delta: delta.flatten(1).abs().amax(dim=1),
    steepest=torch.sign,
    project=lambda delta, eps: delta.clamp(-eps, eps),
    random=_linf_random,
)
_L2 = Norm("l2", _l2_size, _l2_steepest, _l2_project, _l2_random)
_L1 = Norm("l1", _l1_size, _l1_steepest, _l1_project, _l1_random)
# Its radius is a share of the pixels' places, of which all channels may change as they like.
_L0 = Norm("l0", _l0_size, torch.sign, _l0_project, _l0_random)

NORMS: Registry[Norm] = Registry(
    "norm", AttackError, {"linf": _LINF, "l2": _L2, "l1": _L1, "l0": _L0}
)
