"""Figures of detections, their explanations, and gains against distances."""

from adaptation.report.gains import gains_figure
from adaptation.report.pictures import (
    SURE,
    BoxScore,
    box_maps,
    detections_figure,
    draw_explained,
    input_gradient,
)

__all__ = [
    "SURE",
    "BoxScore",
    "box_maps",
    "detections_figure",
    "draw_explained",
    "gains_figure",
    "input_gradient",
]
