"""The distance of two domains, and the training that it advises."""

from adaptation.shift.features import classifier_features, detector_features
from adaptation.shift.measure import CLOUD, DRAWS, THRESHOLD, Shift, frechet, measure_shift

__all__ = [
    "CLOUD",
    "DRAWS",
    "THRESHOLD",
    "Shift",
    "classifier_features",
    "detector_features",
    "frechet",
    "measure_shift",
]
