"""What detectors see: their detections drawn, judged under attack, and explained."""

from experiments.seen.boxes import BoxScore
from experiments.seen.detections import SURE, detections_figure
from experiments.seen.gradients import box_maps, draw_explained, input_gradient
from experiments.seen.judged import attacked, robust_ap50

__all__ = [
    "SURE",
    "BoxScore",
    "attacked",
    "box_maps",
    "detections_figure",
    "draw_explained",
    "input_gradient",
    "robust_ap50",
]
