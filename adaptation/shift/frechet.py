"""Fréchet's distance between two clouds of features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from sklearn.covariance import ledoit_wolf

from robustkit.errors import DataError

Floats = NDArray[np.float64]
ENOUGH = 4  # images for each feature: with fewer the covariance is shrunk


def frechet(first: Floats, second: Floats) -> float:
    """The squared Fréchet distance between normal distributions fitted to features (n,d), (m,d).

    |μ₁ - μ₂|² + tr(Σ₁ + Σ₂ - 2 (Σ₁Σ₂)^½) (Dowson and Landau 1982; as FID, Heusel et al. 2017), in
    float64. Covariances of few images are shrunk (Ledoit and Wolf 2004). Raises `DataError` for
    fewer than two images, or features that do not go together or are not finite.

    >>> features = np.random.default_rng(0).normal(size=(64, 2))
    >>> round(frechet(features, features + [3.0, 4.0]), 6)  # moved, not changed: 3² + 4²
    25.0
    """
    if first.ndim != 2 or first.shape[1:] != second.shape[1:]:
        raise DataError(f"features {first.shape} and {second.shape} cannot be compared")
    if min(len(first), len(second)) < 2:
        raise DataError("a distance between domains needs two images of each at least")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise DataError("features are not finite")
    first, second = first.astype(np.float64), second.astype(np.float64)
    apart = first.mean(axis=0) - second.mean(axis=0)
    a, b = covariance(first), covariance(second)
    # tr (AB)^½ = Σ √λ of A^½ B A^½, which is symmetric and has no complex parts to lose.
    root = _root(a)
    values = linalg.eigvalsh(root @ b @ root, driver="evd")
    cross = np.sqrt(values.clip(min=0)).sum()
    return float(max(apart @ apart + np.trace(a) + np.trace(b) - 2 * cross, 0.0))


def covariance(features: Floats) -> Floats:
    """The covariance (d,d), shrunk where there are few images for its size."""
    count, size = features.shape
    if count >= ENOUGH * size:
        return np.atleast_2d(np.cov(features, rowvar=False))
    shrunk, _ = ledoit_wolf(features)
    return np.asarray(shrunk)


def _root(matrix: Floats) -> Floats:
    # Shrunk covariances have hundreds of equal eigenvalues, on which the default driver may fail.
    values, vectors = linalg.eigh(matrix, driver="evd")
    return np.asarray((vectors * np.sqrt(values.clip(min=0))) @ vectors.T)
