"""Trace a model once, read many maps."""

from robustkit.explain.averages import integrated_gradients, smoothgrad
from robustkit.explain.cav import Contribution, cav
from robustkit.explain.filters import Paths, filter_paths, filter_ranking
from robustkit.explain.gradients import (
    enlarged,
    gradcam,
    gradient_x_input,
    guided_gradcam,
    rectified,
    saliency,
)
from robustkit.explain.occlusion import Greedy, Occlusion, greedy_occlusion, occlusion
from robustkit.explain.rules import RELU_RULES
from robustkit.explain.trace import Target, Trace, trace

__all__ = [
    "RELU_RULES",
    "Contribution",
    "Greedy",
    "Occlusion",
    "Paths",
    "Target",
    "Trace",
    "cav",
    "enlarged",
    "filter_paths",
    "filter_ranking",
    "gradcam",
    "gradient_x_input",
    "greedy_occlusion",
    "guided_gradcam",
    "integrated_gradients",
    "occlusion",
    "rectified",
    "saliency",
    "smoothgrad",
    "trace",
]
