"""The masking check: disable what a map points at, and look at the scores again."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from experiments.explain.config import ExplainOptions
from robustkit import explain
from robustkit.errors import ConfigError
from robustkit.explain import Contribution
from robustkit.models import Classifier

TOP = 10


def check_mask(model: Classifier, images: Tensor, options: ExplainOptions) -> None:
    """Raise `ConfigError` or `ExplainError` for a box or a place that is not there."""
    box = options.box()
    height, width = images.shape[2:]
    if box is not None and (box[2] > width or box[3] > height):
        raise ConfigError(f"--mask {','.join(options.mask or ())}: images are {width} x {height}")
    if options.mask is None or options.at == "pixels":
        return
    with explain.trace(model, images[:1], 0, (options.at,)) as trace:
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
        found = explain.cav(trace, paper=options.paper)[layer]
    region = _region(found, images, options)
    masked = explain.disable(model, images, targets, found, region, layer, fill=options.fill)
    before, after = masked.scores()
    tops = masked.top(TOP)
    return {
        "at": options.at,
        "what": ",".join(options.mask or ()),
        "fill": options.fill,
        "images": [
            {
                "share": float(masked.share[row]),
                "before": float(before[row]),
                "after": float(after[row]),
                "predicted": float(masked.predicted[row]),
                "top_before": [classes[int(k)] for k in tops[0][row]],
                "top_after": [classes[int(k)] for k in tops[1][row]],
            }
            for row in range(len(images))
        ],
    }


def _region(found: Contribution, images: Tensor, options: ExplainOptions) -> Tensor:
    """Bool (N,h,w) over the layer's maps; a box in pixels covers what it touches of a layer."""
    box = options.box()
    if box is None:
        assert options.mask is not None
        return explain.signed_region(found, options.mask[0], options.quantile)
    left, top, right, bottom = box
    height, width = images.shape[2:]
    rows, columns = found.raw.shape[2:]
    region = torch.zeros(len(images), rows, columns, dtype=torch.bool)
    down = slice(top * rows // height, -(-bottom * rows // height))
    across = slice(left * columns // width, -(-right * columns // width))
    region[:, down, across] = True
    return region
