"""Do maps add up to what they say they divide among the pixels?"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from robustkit.attacks import predict
from robustkit.explain.methods import Maps, MapSettings
from robustkit.models import Classifier


def gaps(
    model: Classifier,
    images: Tensor,
    targets: Tensor,
    maps: Mapping[str, Maps],
    residuals: Tensor | None,
    settings: MapSettings,
) -> dict[str, Tensor]:
    """By method, for those with such a sum, by how much (N,) it misses.

    CAV with its biases adds up to the score, and `residuals` tell by how much not; gradient times
    input to the score, were it not for biases; integrated gradients to the score less that of the
    image they start from, but for the quadrature.
    """
    score = _scores(model, images, targets)
    found: dict[str, Tensor] = {}
    if "cav" in maps and residuals is not None:
        found["cav"] = residuals
    if "gradxinput" in maps:
        found["gradxinput"] = _sum(maps["gradxinput"]) - score
    if "integrated" in maps:
        start = _scores(model, torch.full_like(images, settings.fill), targets)
        found["integrated"] = _sum(maps["integrated"]) - (score - start)
    return found


def _sum(of: Maps) -> Tensor:
    return of.pixels.flatten(1).sum(dim=1).cpu()


def _scores(model: Classifier, images: Tensor, targets: Tensor) -> Tensor:
    return predict(model, images).gather(1, targets.cpu()[:, None])[:, 0]
