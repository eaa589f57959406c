"""Evaluation: how accurate and how robust any model is on any images, and whether that is evidence.

Stands on attacks; below training. Takes any module from images in [0,1] to logits, and whatever
`data.as_image_set` takes.
"""

from robustkit.attacks.predictions import correct, predict, predicted_classes
from robustkit.evaluation.accuracy import RobustAccuracy, accuracy, check_clean, robust_accuracy
from robustkit.evaluation.diagnosis import diagnose
from robustkit.evaluation.gradient_similarity import (
    GradientAlignment,
    GradientPairs,
    alignment,
    gradient_pairs,
    input_gradients,
)
from robustkit.evaluation.robustness import Robustness, survivors, worst_case
from robustkit.evaluation.transferability import TransferMatrix, transfer_matrix
from robustkit.evaluation.transferability import transfer_matrix as transfer
from robustkit.runs.summaries import Finding

__all__ = [
    "Finding",
    "GradientAlignment",
    "GradientPairs",
    "RobustAccuracy",
    "Robustness",
    "TransferMatrix",
    "accuracy",
    "alignment",
    "check_clean",
    "correct",
    "diagnose",
    "gradient_pairs",
    "input_gradients",
    "predict",
    "predicted_classes",
    "robust_accuracy",
    "survivors",
    "transfer",
    "transfer_matrix",
    "worst_case",
]
