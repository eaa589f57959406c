"""Published results, one study each, run again; their claims beside our figures, judged by rule.

A published figure is printed beside ours with its source and never copied into our column. What a
publication leaves open is configuration here: we compare the shape of a result, not its setting.
"""

from experiments.reproduce import (
    asynchronous_bias,
    contribution_maps,
    digit_shift,
    filter_contribution,
    history_repair,
    misalignment,
    occlusion,
    overtraining,
    robust_features,
    search_strategies,
    source_detectors,
)
from experiments.reproduce.evidence import evidence
from experiments.reproduce.listing import listing
from experiments.reproduce.page import comparison
from experiments.reproduce.registry import EXPERIMENTS, find
from experiments.reproduce.running import run_study
from experiments.reproduce.saved import check_scale, of_settings, summary_of
from experiments.reproduce.study import SCALES, Study

__all__ = [
    "EXPERIMENTS",
    "SCALES",
    "Study",
    "asynchronous_bias",
    "check_scale",
    "comparison",
    "contribution_maps",
    "digit_shift",
    "evidence",
    "filter_contribution",
    "find",
    "history_repair",
    "listing",
    "misalignment",
    "occlusion",
    "of_settings",
    "overtraining",
    "robust_features",
    "run_study",
    "search_strategies",
    "source_detectors",
    "summary_of",
]
