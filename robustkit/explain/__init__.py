"""Trace a model once, read many maps."""

from robustkit.explain.cav import Contribution, cav
from robustkit.explain.gradients import (
    enlarged,
    gradcam,
    gradient_x_input,
    guided_gradcam,
    rectified,
    saliency,
)
from robustkit.explain.rules import RELU_RULES
from robustkit.explain.trace import Target, Trace, trace

__all__ = [
    "RELU_RULES",
    "Contribution",
    "Target",
    "Trace",
    "cav",
    "enlarged",
    "gradcam",
    "gradient_x_input",
    "guided_gradcam",
    "rectified",
    "saliency",
    "trace",
]
