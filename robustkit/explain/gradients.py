"""Maps that are read off gradients, and off gradients that ReLUs have rectified."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.compute import exact_products, torch_generator
from robustkit.errors import ConfigError, ExplainError
from robustkit.explain.rules import RELU_RULES
from robustkit.explain.trace import INPUT, Target, Trace, of_model_or_trace, trace
from robustkit.models.state import state_preserved


@overload
def saliency(trace: Trace) -> Tensor: ...
@overload
def saliency(
    model: nn.Module, images: Tensor, target: Target = ..., *, layers: Sequence[str] = ...
) -> Tensor: ...
@of_model_or_trace
def saliency(trace: Trace) -> Tensor:
    """Return ∂score/∂image (N,C,H,W), signed (Simonyan et al. 2014), of a trace or a model.

    In units of the score per unit of images in [0,1].
    """
    return trace.backward().slopes[INPUT]


@overload
def gradient_x_input(trace: Trace) -> Tensor: ...
@overload
def gradient_x_input(
    model: nn.Module, images: Tensor, target: Target = ..., *, layers: Sequence[str] = ...
) -> Tensor: ...
@of_model_or_trace
def gradient_x_input(trace: Trace) -> Tensor:
    """Return image times gradient (N,C,H,W) (Shrikumar et al. 2017)."""
    return trace.backward().slopes[INPUT] * trace.layers[INPUT]


@overload
def rectified(trace: Trace, rule: str) -> Tensor: ...
@overload
def rectified(
    model: nn.Module, images: Tensor, target: Target, rule: str, *, layers: Sequence[str] = ...
) -> Tensor: ...
@of_model_or_trace
def rectified(trace: Trace, rule: str) -> Tensor:
    """Return the signal (N,C,H,W) at the image by "deconvnet", "guided" or "guided-minus".

    Raises `ExplainError` for another rule, and for a net without ReLUs, for which it says nothing.
    """
    if rule not in RELU_RULES:
        raise ExplainError(f"no rule for ReLUs '{rule}': {', '.join(RELU_RULES)}")
    if not trace.record.relus:
        raise ExplainError(f"'{rule}' is a rule for ReLUs, and the model has none")
    return trace.backward(rule).slopes[INPUT]


@overload
def gradcam(trace: Trace, *, relu: bool = ...) -> Mapping[str, Tensor]: ...
@overload
def gradcam(
    model: nn.Module,
    images: Tensor,
    target: Target = ...,
    *,
    layers: Sequence[str] = ...,
    relu: bool = ...,
) -> Mapping[str, Tensor]: ...
@of_model_or_trace
def gradcam(trace: Trace, *, relu: bool = True) -> Mapping[str, Tensor]:
    """Return Σ_k mean(∂score/∂A_k)·A_k (N,H,W) by layer with maps A (Selvaraju et al. 2017).

    Of a trace, or as gradcam(model, images, target, layers=[…]) of one of its own. `relu` keeps the
    positive part, as published. Maps are of their layer's size. Raises `ExplainError` where no
    layer of the trace has maps.
    """
    slopes = trace.backward().slopes
    maps = {}
    for name, activation in trace.layers.items():
        if name != INPUT and activation.dim() == 4:
            weights = slopes[name].mean(dim=(2, 3), keepdim=True)
            weighted = (weights * activation).sum(dim=1)
            maps[name] = weighted.clamp_min(0) if relu else weighted
    if not maps:
        raise ExplainError("Grad-CAM needs a layer whose output is (N,C,H,W)")
    return maps


def enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return maps (N,h,w) at `size` (H,W), bilinearly, corners not aligned."""
    return F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


def guided_gradcam(trace: Trace, layer: str) -> Tensor:
    """Return guided backpropagation times the enlarged Grad-CAM of `layer`, (N,C,H,W).

    Selvaraju et al. 2017. Raises `ExplainError` for a layer without a Grad-CAM, and a net without
    ReLUs.
    """
    maps = gradcam(trace)
    if layer not in maps:
        raise ExplainError(f"no Grad-CAM of '{layer}': {', '.join(maps)}")
    height, width = trace.images.shape[2:]
    return rectified(trace, "guided") * enlarged(maps[layer], (height, width))[:, None]


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
    """Return the mean of the map `of` over `samples` noisy copies (Smilkov et al. 2017).

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
    """Return (x - x0) times the mean gradient from x0 to x (Sundararajan et al. 2017).

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
    """Return ∂score/∂image (N,C,H,W) as `saliency`, for a model that was traced before."""
    with state_preserved(model), torch.enable_grad(), exact_products():
        leaf = images.detach().requires_grad_(True)
        # A copy, since a model may write into what it is given.
        score = model(leaf.clone()).gather(1, targets[:, None]).sum()
        (slopes,) = torch.autograd.grad(score, leaf, allow_unused=True)
    return torch.zeros_like(leaf) if slopes is None else slopes


def _read(
    model: nn.Module, targets: Tensor, of: Callable[[Trace], Tensor], images: Tensor
) -> Tensor:
    """Return the map `of` a new trace."""
    with trace(model, images, targets, layers=(INPUT,)) as t:
        return of(t)


def _gauss_legendre(steps: int) -> tuple[list[float], list[float]]:
    """Return points and weights on [0,1], exact to degree 2·steps - 1 (Golub & Welsch)."""
    index = torch.arange(1, steps, dtype=torch.float64)
    beside = index / (4 * index**2 - 1).sqrt()
    values, vectors = torch.linalg.eigh(torch.diag(beside, 1) + torch.diag(beside, -1))
    return ((values + 1) / 2).tolist(), vectors[0].square().tolist()
