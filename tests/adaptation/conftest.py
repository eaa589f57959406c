"""Two domains of a few rendered images, shared by the tests that train detectors."""

from __future__ import annotations

import pytest

from robustkit.data.detection import DetectionSet, load_detection


@pytest.fixture(scope="package")
def source() -> DetectionSet:
    return load_detection("shapes:photo:24?side=64", "train")


@pytest.fixture(scope="package")
def target() -> DetectionSet:
    return load_detection("shapes:clipart:24?side=64", "train")
