"""The distance of a target from a source, relative to that between halves of the source."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import linalg
from sklearn.covariance import ledoit_wolf
from torch import nn

from adaptation.detectors import Detector
from robustkit.compute import derive_seed, device_of
from robustkit.data import ImageSet, batches, to_unit
from robustkit.data.detection import DetectionSet
from robustkit.errors import DataError, ModelError
from robustkit.models import Classifier
from robustkit.models.state import state_preserved
from robustkit.runs.summaries import Amount, Count, Positive, Result

Floats = NDArray[np.float64]
ENOUGH = 4  # images for each feature: with fewer the covariance is shrunk


def frechet(first: Floats, second: Floats) -> float:
    """Return the squared Fréchet distance between normal distributions fitted to features.

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
    """Return the covariance (d,d), shrunk where there are few images for its size."""
    count, size = features.shape
    if count >= ENOUGH * size:
        return np.atleast_2d(np.cov(features, rowvar=False))
    shrunk, _ = ledoit_wolf(features)
    return np.asarray(shrunk)


def _root(matrix: Floats) -> Floats:
    # Shrunk covariances have hundreds of equal eigenvalues, on which the default driver may fail.
    values, vectors = linalg.eigh(matrix, driver="evd")
    return np.asarray((vectors * np.sqrt(values.clip(min=0))) @ vectors.T)


BATCH = 32


def detector_features(model: Detector, images: DetectionSet) -> NDArray[np.float64]:
    """Return the means (N,C) over places of the coarsest maps; the model is left as it was."""
    parts = []
    with state_preserved(model), torch.no_grad():
        for start in range(0, len(images), BATCH):
            rows = range(start, min(start + BATCH, len(images)))
            pixels = [to_unit(images.image(row)).to(device_of(model)) for row in rows]
            maps = list(model.features(pixels).values())[-1]
            parts.append(maps.mean(dim=(2, 3)).double().cpu())
    return torch.cat(parts).numpy()


def classifier_features(model: Classifier, images: ImageSet) -> NDArray[np.float64]:
    """Return the inputs (N,d) of a classifier's last linear layer; the model is left as it was.

    Raises `ModelError` for one that has none.
    """
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ModelError("a classifier without a linear layer: no telling what its features are")
    last = linear[-1]
    features: list[torch.Tensor] = []

    def keep(_: nn.Module, inputs: tuple[torch.Tensor, ...], __: torch.Tensor) -> None:
        features.append(inputs[0].flatten(1).double().cpu())

    handle = last.register_forward_hook(keep)
    try:
        with state_preserved(model), torch.no_grad():
            for rows in batches(len(images), BATCH):
                model(images.floats(rows).to(device_of(model)))
    finally:
        handle.remove()
    return torch.cat(features).numpy()


DRAWS = 100
CLOUD = 100  # images of each cloud: the distance depends on it, and so must be the same everywhere
PARTITIONS = 5
# Above this ratio adversarial training of the source is advised. The published threshold is not
# known; this one predicts most signs of the gain on the rendered styles: 23 of 24, over four
# styles, with and without a texture, three trainings each (`reproduce source-detectors`).
THRESHOLD = 4.0
PAYS, COSTS = "adversarial training is likely to pay", "plain training is likely to do as well"


class Shift(Result, frozen=True, kw_only=True):
    """`frechet` between source and target, `within_source` between parts of the source, both
    squared distances of clouds of `cloud` images; `ratio` of the two with its interval; `threshold`
    and `advice`. `images` are how many there were of each domain.
    """

    frechet: Amount
    within_source: Amount
    ratio: Positive
    low: Amount
    high: Amount
    cloud: Count
    images: tuple[Count, Count]
    threshold: Positive
    advice: str


def measure_shift(
    source: Floats,
    target: Floats,
    *,
    threshold: float = THRESHOLD,
    draws: int = DRAWS,
    seed: int = 0,
) -> Shift:
    """Return the shift between features (n,d) of the source and (m,d) of the target.

    The distance within a domain is that of sampling alone and falls with the number of images, so
    all clouds have `CLOUD` images (fewer where there are not four times as many of the source and
    twice as many of the target): a ratio is to be compared with others of the same size alone. Both
    distances are means over random partitions. The interval is of the very same ratio on random
    halves of both domains (half-sample replication, McCarthy 1969): drawing with replacement
    would repeat images, which makes any two clouds look farther apart. Raises `DataError` for too
    few images, and for a source whose features do not vary.
    """
    rng = np.random.default_rng(derive_seed("shift", seed))
    size = min(CLOUD, len(source) // 4, len(target) // 2)
    if size < 2:
        raise DataError("a distance between domains needs eight source images and four target ones")
    across, within = _means(source, target, size, 4 * PARTITIONS, rng)
    if not within > 0:
        raise DataError("the source's features do not vary: there is nothing to compare with")
    ratios = []
    for _ in range(draws):
        source_half = source[rng.permutation(len(source))[: len(source) // 2]]
        target_half = target[rng.permutation(len(target))[: len(target) // 2]]
        a, w = _means(source_half, target_half, size, PARTITIONS, rng)
        if not w > 0:
            raise DataError("half of the source's images look alike: too little to compare with")
        ratios.append(a / w)
    low, high = np.quantile(ratios, [0.025, 0.975])
    ratio = across / within
    return Shift(
        frechet=across,
        within_source=within,
        ratio=ratio,
        low=float(low),
        high=float(high),
        cloud=size,
        images=(len(source), len(target)),
        threshold=threshold,
        advice=PAYS if ratio > threshold else COSTS,
    )


def _means(
    source: Floats, target: Floats, size: int, partitions: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Return mean distances of parts of the source to the target and to other parts of the
    source.
    """
    pairs = []
    for _ in range(partitions):
        order = rng.permutation(len(source))
        first, second = source[order[:size]], source[order[size : 2 * size]]
        target_part = target[rng.permutation(len(target))[:size]]
        pairs.append((frechet(first, target_part), frechet(first, second)))
    across, within = (float(np.mean(values)) for values in zip(*pairs, strict=True))
    return across, within
