"""Trace a model once, read many maps."""

from robustkit.explain.averages import integrated_gradients, smoothgrad
from robustkit.explain.cav import Contribution, cav
from robustkit.explain.faithfulness import Curve, deletion, edges, insertion, random_maps
from robustkit.explain.filters import Paths, filter_paths, filter_ranking
from robustkit.explain.gradients import (
    enlarged,
    gradcam,
    gradient_x_input,
    guided_gradcam,
    rectified,
    saliency,
)
from robustkit.explain.intervals import mean_interval
from robustkit.explain.masking import SIGNS as MASK_SIGNS
from robustkit.explain.masking import Masked, disable, signed_region
from robustkit.explain.methods import METHODS, Maps, MapSettings, make_maps
from robustkit.explain.occlusion import (
    Greedy,
    Occlusion,
    greedy_occlusion,
    occlusion,
    occlusion_regions,
)
from robustkit.explain.rules import RELU_RULES
from robustkit.explain.sanity import maps_under_randomisation, randomised
from robustkit.explain.similarity import Similarity, spearman, ssim
from robustkit.explain.targets import Target
from robustkit.explain.trace import Trace, trace

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
    "mean_interval",
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
