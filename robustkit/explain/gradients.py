"""Maps that are read off gradients, and off gradients that ReLUs have rectified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import overload

import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.errors import ExplainError
from robustkit.explain.layers import INPUT
from robustkit.explain.rules import RELU_RULES
from robustkit.explain.targets import Target
from robustkit.explain.trace import Trace, of_model_or_trace


@overload
def saliency(trace: Trace) -> Tensor: ...
@overload
def saliency(
    model: nn.Module, images: Tensor, target: Target = ..., *, layers: Sequence[str] = ...
) -> Tensor: ...
@of_model_or_trace
def saliency(trace: Trace) -> Tensor:
    """∂score/∂image (N,C,H,W), signed (Simonyan et al. 2014), of a trace, or of a model and images.

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
    """Image times gradient (N,C,H,W) (Shrikumar et al. 2017)."""
    return trace.backward().slopes[INPUT] * trace.layers[INPUT]


@overload
def rectified(trace: Trace, rule: str) -> Tensor: ...
@overload
def rectified(
    model: nn.Module, images: Tensor, target: Target, rule: str, *, layers: Sequence[str] = ...
) -> Tensor: ...
@of_model_or_trace
def rectified(trace: Trace, rule: str) -> Tensor:
    """The signal (N,C,H,W) that reaches the image by "deconvnet", "guided" or "guided-minus".

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
    """Σ_k mean(∂score/∂A_k)·A_k (N,H,W) at every layer with maps A (Selvaraju et al. 2017).

    Of a trace, or as gradcam(model, images, target, layers=[…]) of one of its own. `relu` keeps the
    positive part, as published. Maps are of their layer's size. Raises `ExplainError` where no
    layer of the trace has maps.
    """
    slopes = trace.backward().slopes
    maps = {}
    for name, activation in trace.layers.items():
        if name != INPUT and activation.dim() == 4:
            weights = slopes[name].mean(dim=(2, 3), keepdim=True)
            made = (weights * activation).sum(dim=1)
            maps[name] = made.clamp_min(0) if relu else made
    if not maps:
        raise ExplainError("Grad-CAM needs a layer whose output is (N,C,H,W)")
    return maps


def enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (N,h,w) at `size` (H,W), bilinearly, corners not aligned."""
    return F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


def guided_gradcam(trace: Trace, layer: str) -> Tensor:
    """Guided backpropagation times the enlarged Grad-CAM of `layer`, (N,C,H,W).

    Selvaraju et al. 2017. Raises `ExplainError` for a layer without a Grad-CAM, and a net without
    ReLUs.
    """
    maps = gradcam(trace)
    if layer not in maps:
        raise ExplainError(f"no Grad-CAM of '{layer}': {', '.join(maps)}")
    height, width = trace.images.shape[2:]
    return rectified(trace, "guided") * enlarged(maps[layer], (height, width))[:, None]
