"""Trace a model once, read many maps."""

from robustkit.explain.cav import Contribution, Paths, cav, filter_paths, filter_ranking
from robustkit.explain.faithfulness import SIGNS as MASK_SIGNS
from robustkit.explain.faithfulness import (
    Curve,
    Masked,
    Similarity,
    deletion,
    disable,
    edges,
    insertion,
    maps_under_randomisation,
    random_maps,
    randomised,
    signed_region,
    spearman,
    ssim,
)
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
from robustkit.explain.methods import METHODS, Maps, MapSettings, make_maps
from robustkit.explain.occlusion import (
    Greedy,
    Occlusion,
    greedy_occlusion,
    occlusion,
    occlusion_regions,
)
from robustkit.explain.rules import RELU_RULES
from robustkit.explain.trace import Target, Trace, trace

__all__ = [
    "MASK_SIGNS",
    "METHODS",
    "RELU_RULES",
    "Contribution",
    "Curve",
    "Greedy",
    "MapSettings",
    "Maps",
    "Masked",
    "Occlusion",
    "Paths",
    "Similarity",
    "Target",
    "Trace",
    "cav",
    "deletion",
    "disable",
    "edges",
    "enlarged",
    "filter_paths",
    "filter_ranking",
    "gradcam",
    "gradient_x_input",
    "greedy_occlusion",
    "guided_gradcam",
    "insertion",
    "integrated_gradients",
    "make_maps",
    "maps_under_randomisation",
    "occlusion",
    "occlusion_regions",
    "random_maps",
    "randomised",
    "rectified",
    "saliency",
    "signed_region",
    "smoothgrad",
    "spearman",
    "ssim",
    "trace",
]
