"""Every map by its name, from one trace of the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.errors import ExplainError
from robustkit.explain.cav import cav
from robustkit.explain.gradients import (
    enlarged,
    gradcam,
    gradient_x_input,
    guided_gradcam,
    integrated_gradients,
    rectified,
    saliency,
    smoothgrad,
)
from robustkit.explain.occlusion import occlusion
from robustkit.explain.trace import Trace, trace
from robustkit.registry import Registry


@dataclass(frozen=True, kw_only=True)
class MapSettings:
    """What maps need besides a trace.

    `layers` are names of modules or their types, or "auto"; `steps` points of integrated gradients,
    `samples` noisy copies of smoothgrad, `region` the side of an occluded square in pixels, `fill`
    what is put there and where integrated gradients start, in [0,1]; `paper` see `cav`.
    """

    layers: tuple[str, ...] = ("auto",)
    steps: int = 20
    samples: int = 25
    region: int = 2
    fill: float = 0.0
    paper: bool = False
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Maps:
    """`pixels` (N,H,W), of the image's size, signed where the method is; `layers` (N,h,w) of each
    layer from the last one back to the input, for methods that read layers."""

    pixels: Tensor
    layers: Mapping[str, Tensor]


Method = Callable[[Trace, nn.Module, MapSettings], Maps]
METHODS: Registry[Method] = Registry("map", ExplainError)


def make_maps(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    methods: Sequence[str],
    settings: MapSettings | None = None,
) -> dict[str, Maps]:
    """Return all maps of `images` (N,C,H,W) for `targets` int64 (N,), from one trace.

    Raises `ExplainError` for an unknown name, and where a map cannot be made of this model.
    """
    settings = settings or MapSettings()
    with trace(model, images, targets, settings.layers) as traced:
        return {name: METHODS.find(name)(traced, model, settings) for name in methods}


@METHODS.register("cav")
def _cav(trace: Trace, model: nn.Module, settings: MapSettings) -> Maps:
    try:
        found = cav(trace, paper=settings.paper)
    except ExplainError as error:
        raise ExplainError(f"{error}; give --method without cav") from None
    _refuse_flat(trace)
    spatial = {name: each.map for name, each in found.items() if each.raw.dim() == 4}
    return _by_layer(spatial, trace)


@METHODS.register("gradcam")
def _gradcam(trace: Trace, model: nn.Module, settings: MapSettings) -> Maps:
    _refuse_flat(trace)
    return _by_layer(gradcam(trace), trace)


@METHODS.register("saliency")
def _saliency(trace: Trace, model: nn.Module, settings: MapSettings) -> Maps:
    return _strength(saliency(trace))


@METHODS.register("gradxinput")
def _gradxinput(trace: Trace, model: nn.Module, settings: MapSettings) -> Maps:
    return Maps(gradient_x_input(trace).sum(dim=1), {})


@METHODS.register("deconvnet")
def _deconvnet(trace: Trace, model: nn.Module, settings: MapSettings) -> Maps:
    return _strength(rectified(trace, "deconvnet"))


@METHODS.register("guided")
def _guided(trace: Trace, model: nn.Module, settings: MapSettings) -> Maps:
    return _strength(rectified(trace, "guided"))


@METHODS.register("guided-minus")
def _guided_minus(trace: Trace, model: nn.Module, settings: MapSettings) -> Maps:
    return _strength(rectified(trace, "guided-minus"))


@METHODS.register("guided-gradcam")
def _guided_gradcam(trace: Trace, model: nn.Module, settings: MapSettings) -> Maps:
    last = list(gradcam(trace))[-1]
    return _strength(guided_gradcam(trace, last))


@METHODS.register("smoothgrad")
def _smoothgrad(trace: Trace, model: nn.Module, settings: MapSettings) -> Maps:
    found = smoothgrad(
        model, trace.images, trace.targets, samples=settings.samples, seed=settings.seed
    )
    return _strength(found)


@METHODS.register("integrated")
def _integrated(trace: Trace, model: nn.Module, settings: MapSettings) -> Maps:
    found = integrated_gradients(
        model, trace.images, trace.targets, steps=settings.steps, baseline=settings.fill
    )
    return Maps(found.sum(dim=1), {})


@METHODS.register("occlusion")
def _occlusion(trace: Trace, model: nn.Module, settings: MapSettings) -> Maps:
    region = settings.region
    found = occlusion(model, trace.images, trace.targets, region=region, fill=settings.fill)
    height, width = trace.images.shape[2:]
    large = F.interpolate(found.drop[:, None], scale_factor=region, mode="nearest")
    return Maps(large[:, 0, :height, :width], {})


def _strength(found: Tensor) -> Maps:
    """Return magnitudes, added up over channels: a gradient's sign is a direction, no amount."""
    return Maps(found.abs().sum(dim=1), {})


def _refuse_flat(trace: Trace) -> None:
    """Raise `ExplainError` for a layer that was asked for and has no maps."""
    for name, activation in trace.layers.items():
        if activation.dim() != 4:
            raise ExplainError(
                f"layer '{name}' gives {tuple(activation.shape)}, no maps (N,C,H,W) to show"
            )


def _by_layer(found: Mapping[str, Tensor], trace: Trace) -> Maps:
    """Return the last layer's map at the image's size, and all, the last one first."""
    if not found:
        raise ExplainError("no layer of the trace has maps (N,C,H,W)")
    ordered = dict(reversed(list(found.items())))
    height, width = trace.images.shape[2:]
    last = next(iter(ordered.values()))
    return Maps(enlarged(last, (height, width)), ordered)
