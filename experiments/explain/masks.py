"""The masking check: disable what a map points at, and look at the scores again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from experiments.explain.config import ExplainOptions
from robustkit import explain
from robustkit.errors import ConfigError, ExplainError
from robustkit.explain import Contribution, Trace
from robustkit.models import Classifier

TOP = 10


def check_mask(model: Classifier, images: Tensor, options: ExplainOptions) -> None:
    """Raise `ConfigError` or `ExplainError` for a box or a place that is not there."""
    box = options.box()
    height, width = images.shape[2:]
    if box is not None and (box[2] > width or box[3] > height):
        raise ConfigError(f"--mask {','.join(options.mask or ())}: images are {width} x {height}")
    if options.mask is None:
        return
    layer = "input" if options.at == "pixels" else options.at
    with explain.trace(model, images[:1], 0, (layer,)) as trace:
        if box is None:
            explain.cav(trace)  # whose signs they are
        if options.at == "pixels":
            return
        found = [name for name in trace.layers if name != "input"]
        maps = [name for name in found if trace.layers[name].dim() == 4]
    if found != [options.at] or maps != [options.at]:
        raise ConfigError(
            f"--at {options.at}: name one module that is called once and gives (N,C,H,W), or pixels"
        )


def masking_check(
    model: Classifier,
    images: Tensor,
    targets: Tensor,
    options: ExplainOptions,
    classes: tuple[str, ...],
) -> dict[str, Any]:
    """Scores and the highest classes before and after, and what linearity predicts."""
    layer = "input" if options.at == "pixels" else options.at
    with explain.trace(model, images, targets, (layer,)) as trace:
        found = contributions(trace, paper=options.paper).get(layer)
        shape = trace.layers[layer].shape
    region = _region(found, shape, images, options)
    masked = explain.disable(model, images, targets, found, region, layer, fill=options.fill)
    before, after = masked.scores()
    tops = masked.top(TOP)
    return {
        "at": options.at,
        "what": ",".join(options.mask or ()),
        "fill": options.fill,
        "quantile": options.quantile,
        "images": [
            {
                "share": float(masked.share[row]),
                "before": float(before[row]),
                "after": float(after[row]),
                "predicted": None if masked.predicted is None else float(masked.predicted[row]),
                "top_before": [classes[int(k)] for k in tops[0][row]],
                "top_after": [classes[int(k)] for k in tops[1][row]],
            }
            for row in range(len(images))
        ],
    }


def contributions(trace: Trace, *, paper: bool) -> Mapping[str, Contribution]:
    """CAV at every layer of a trace; nothing where the net does what has no convention."""
    try:
        return explain.cav(trace, paper=paper)
    except ExplainError:
        return {}


def _region(
    found: Contribution | None, shape: Sequence[int], images: Tensor, options: ExplainOptions
) -> Tensor:
    """Bool (N,h,w) over the layer's maps; a box in pixels covers what it touches of a layer."""
    box = options.box()
    if box is None:
        assert options.mask is not None
        assert found is not None  # checked beforehand
        return explain.signed_region(found, options.mask[0], options.quantile)
    left, top, right, bottom = box
    height, width = images.shape[2:]
    rows, columns = shape[2:]
    region = torch.zeros(len(images), rows, columns, dtype=torch.bool)
    down = slice(top * rows // height, -(-bottom * rows // height))
    across = slice(left * columns // width, -(-right * columns // width))
    region[:, down, across] = True
    return region
