"""A detector small enough to be trained in a test."""

from __future__ import annotations

from adaptation import detectors
from adaptation.detectors import Detector

SPEC = "tiny_ssd?side=64&width=16"


def fresh(classes: tuple[str, ...], spec: str = SPEC) -> Detector:
    """The same weights every time."""
    return detectors.build(spec, classes, seed=0)
