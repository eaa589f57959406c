"""How far two domains are apart, and what to do about it."""

from adaptation.shift.measure import (
    DRAWS,
    THRESHOLD,
    Shift,
    classifier_features,
    detector_features,
    frechet,
    measure_shift,
)

__all__ = [
    "DRAWS",
    "THRESHOLD",
    "Shift",
    "classifier_features",
    "detector_features",
    "frechet",
    "measure_shift",
]
