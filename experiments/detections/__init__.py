"""What detectors see: their detections drawn, judged under attack, and explained."""

from experiments.detections.boxes import BoxScore
from experiments.detections.drawn import SURE, detections_figure
from experiments.detections.gains import gains_figure
from experiments.detections.gradients import box_maps, draw_explained, input_gradient
from experiments.detections.judged import attacked, robust_ap50

__all__ = [
    "SURE",
    "BoxScore",
    "attacked",
    "box_maps",
    "detections_figure",
    "draw_explained",
    "gains_figure",
    "input_gradient",
    "robust_ap50",
]
