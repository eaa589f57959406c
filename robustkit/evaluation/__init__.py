"""Evaluation: how accurate and how robust any model is on any images, and whether that is evidence.

Stands on attacks; below training. Takes any module from images in [0,1] to logits, and whatever
`data.as_image_set` takes.
"""

from robustkit.attacks import transfer_matrix as transfer
from robustkit.evaluation.accuracy import accuracy, check_clean
from robustkit.evaluation.robust import RobustAccuracy, robust_accuracy

__all__ = [
    "RobustAccuracy",
    "accuracy",
    "check_clean",
    "robust_accuracy",
    "transfer",
]
