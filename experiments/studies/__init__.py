"""Published results, one study each, run again; their claims beside our figures, judged by rule.

A published figure is printed beside ours with its source and never copied into our column. What a
publication leaves open is configuration here: we compare the shape of a result, not its setting.
"""

from experiments.studies import occlusion
from experiments.studies.asynchronous_bias import study as asynchronous_bias
from experiments.studies.base import EXPERIMENTS, SCALES, Study, find
from experiments.studies.contribution_maps import study as contribution_maps
from experiments.studies.digit_shift import study as digit_shift
from experiments.studies.evidence import comparison, evidence, listing
from experiments.studies.filter_contribution import study as filter_contribution
from experiments.studies.history_repair import study as history_repair
from experiments.studies.misalignment import study as misalignment
from experiments.studies.overtraining import study as overtraining
from experiments.studies.robust_features import study as robust_features
from experiments.studies.running import check_scale, of_settings, run_study, summary_of
from experiments.studies.search_strategies import study as search_strategies
from experiments.studies.source_detectors import study as source_detectors

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
