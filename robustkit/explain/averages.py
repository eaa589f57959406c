"""Maps that are means of many gradients: SmoothGrad and integrated gradients."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from robustkit.attacks.purity import pure
from robustkit.compute import exact_products, torch_generator
from robustkit.errors import ConfigError
from robustkit.explain.gradients import saliency
from robustkit.explain.layers import INPUT
from robustkit.explain.targets import Target
from robustkit.explain.trace import Trace, trace


def smoothgrad(
    model: nn.Module,
    images: Tensor,
    target: Target = "predicted",
    *,
    samples: int = 50,
    spread: float = 0.15,
    seed: int = 0,
    of: Callable[[Trace], Tensor] = saliency,
) -> Tensor:
    """The mean over `samples` noisy copies of each image of the map `of` (Smilkov et al. 2017).

    Noise is normal; its standard deviation is `spread` times the image's own range. "predicted" is
    what the model says of the image without noise. Raises `ConfigError` for settings that make no
    sense.
    """
    if samples < 1 or not 0 <= spread < float("inf"):
        raise ConfigError(f"smoothgrad: samples {samples} must be at least 1, spread not negative")
    with trace(model, images, target, layers=(INPUT,)) as t:
        targets = t.targets
    images = images.to(targets.device)
    # A gradient takes no trace: recording one would cost as much again as a third of the pass.
    plain = of is saliency
    mapped = partial(_slopes, model, targets) if plain else partial(_read, model, targets, of)
    flat = images.flatten(1)
    scale = (spread * (flat.amax(dim=1) - flat.amin(dim=1))).view(-1, 1, 1, 1)
    generator = torch_generator("smoothgrad", seed)
    total: Tensor | float = 0.0
    for _ in range(samples):
        noise = torch.randn(images.shape, generator=generator, dtype=images.dtype)
        total = total + mapped(images + scale * noise.to(images))
    return torch.as_tensor(total) / samples


def integrated_gradients(
    model: nn.Module,
    images: Tensor,
    target: Target = "predicted",
    *,
    baseline: float | Tensor = 0.0,
    steps: int = 50,
) -> Tensor:
    """(x - x0) times the mean gradient on the straight way from x0 to x (Sundararajan et al. 2017).

    Of shape (N,C,H,W), by Gauss-Legendre quadrature with `steps` points. It sums to the difference
    of the scores of x and x0, up to the quadrature's error. Raises `ConfigError` for no steps.
    """
    if steps < 1:
        raise ConfigError(f"integrated gradients: steps must be at least 1, not {steps}")
    with trace(model, images, target, layers=(INPUT,)) as t:
        targets = t.targets
    images = images.to(targets.device)
    start = torch.as_tensor(baseline, dtype=images.dtype, device=images.device).expand_as(images)
    places, weights = _gauss_legendre(steps)
    total = torch.zeros_like(images)
    for place, weight in zip(places, weights, strict=True):
        total += weight * _slopes(model, targets, start + place * (images - start))
    return (images - start) * total


def _slopes(model: nn.Module, targets: Tensor, images: Tensor) -> Tensor:
    """∂score/∂image (N,C,H,W) as `saliency` has it, for a model that has been traced before."""
    with pure(model), torch.enable_grad(), exact_products():
        leaf = images.detach().requires_grad_(True)
        # A copy, since a model may write into what it is given.
        score = model(leaf.clone()).gather(1, targets[:, None]).sum()
        (slopes,) = torch.autograd.grad(score, leaf, allow_unused=True)
    return torch.zeros_like(leaf) if slopes is None else slopes


def _read(
    model: nn.Module, targets: Tensor, of: Callable[[Trace], Tensor], images: Tensor
) -> Tensor:
    """The map `of` a trace of its own."""
    with trace(model, images, targets, layers=(INPUT,)) as t:
        return of(t)


def _gauss_legendre(steps: int) -> tuple[list[float], list[float]]:
    """Points and weights on [0,1]: exact for polynomials of degree 2·steps - 1 (Golub & Welsch)."""
    index = torch.arange(1, steps, dtype=torch.float64)
    beside = index / (4 * index**2 - 1).sqrt()
    values, vectors = torch.linalg.eigh(torch.diag(beside, 1) + torch.diag(beside, -1))
    return ((values + 1) / 2).tolist(), vectors[0].square().tolist()
