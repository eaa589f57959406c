"""One detected box as a score that maps can be made of."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from adaptation.detectors import Detector, Found, statistics_of
from robustkit.errors import ExplainError
from robustkit.models import Normalise


class BoxScore(nn.Module):
    """From images of the detector's own size to the class logits of one of its anchors.

    The anchor is the one whose score for the class is the detection's: logits (N,K), the detector's
    classes without background. Raises `ExplainError` for a detector without anchors in a single
    stage, and where no anchor has that score.
    """

    def __init__(self, model: Detector, image: Tensor, found: Found, number: int) -> None:
        super().__init__()
        net: Any = model.net
        if not hasattr(net, "head") or hasattr(net, "roi_heads"):
            raise ExplainError("maps of a box need a detector of one stage (ssd, fcos, retinanet)")
        self.normalise = Normalise(*statistics_of(net)).to(image.device)
        self.backbone, self.head = net.backbone, net.head
        label, score = int(found.labels[number]), float(found.scores[number].detach())
        with torch.no_grad():
            given = self._outputs(image[None])
            scores = _scores(given)[0, :, label + 1]
        self.anchor = int((scores - score).abs().argmin())
        if abs(float(scores[self.anchor]) - score) > 1e-4:
            raise ExplainError(f"no anchor of the detector has the score {score:.4f}")

    def forward(self, x: Tensor) -> Tensor:
        """The logits of the anchor."""
        logits: Tensor = self._outputs(x)["cls_logits"][:, self.anchor, 1:]
        return logits

    def _outputs(self, x: Tensor) -> dict[str, Tensor]:
        features = list(self.backbone(self.normalise(x)).values())
        outputs: dict[str, Tensor] = self.head(features)
        return outputs


def _scores(given: dict[str, Tensor]) -> Tensor:
    """What each kind of detector makes of its logits (N,A,K+1)."""
    if "bbox_ctrness" in given:
        return (given["cls_logits"].sigmoid() * given["bbox_ctrness"].sigmoid()).sqrt()
    return given["cls_logits"].softmax(dim=-1)
