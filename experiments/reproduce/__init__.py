"""Published results, one file each, run again by the verbs of this house.

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
    overtraining,
    robust_features,
    search_strategies,
    source_detectors,
)
from experiments.reproduce.registry import EXPERIMENTS, Experiment, Row, experiment
from experiments.reproduce.study import Study, run_study

__all__ = [
    "EXPERIMENTS",
    "Experiment",
    "Row",
    "Study",
    "asynchronous_bias",
    "contribution_maps",
    "digit_shift",
    "experiment",
    "filter_contribution",
    "history_repair",
    "misalignment",
    "overtraining",
    "robust_features",
    "run_study",
    "search_strategies",
    "source_detectors",
]
