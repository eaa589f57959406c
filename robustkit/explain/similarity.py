"""How alike two maps are: rank correlation that knows ties, and structural similarity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata
from skimage.metrics import structural_similarity
from torch import Tensor

from robustkit.errors import ExplainError

WINDOW = 7


@dataclass(frozen=True)
class Similarity:
    """Of N pairs of maps: one value for each pair that has one, and how many have none.

    A constant map has no ranks to correlate; it is counted in `constant`, never a NaN.
    """

    values: tuple[float, ...]
    constant: int

    @property
    def mean(self) -> float | None:
        """The mean over pairs that have a value, None without any."""
        return float(np.mean(self.values)) if self.values else None


def spearman(a: Tensor, b: Tensor, *, absolute: bool = False) -> Similarity:
    """Spearman's rank correlation of each of N maps of `a` with that of `b`, (N,…) each.

    Pearson's correlation of average ranks; the shorter formula of squared differences of ranks is
    wrong under ties, and rectified maps are mostly ties. `absolute` compares magnitudes.

    >>> import torch
    >>> a, b = torch.tensor([[0.0, 0.0, 1.0, 2.0]]), torch.tensor([[0.0, 1.0, 2.0, 3.0]])
    >>> round(spearman(a, b).values[0], 4)  # by squared differences it would be 0.95
    0.9487
    """
    first, second = _rows(a, b, absolute)
    values, constant = [], 0
    for x, y in zip(first, second, strict=True):
        if not _varied(x) or not _varied(y):
            constant += 1
            continue
        values.append(float(np.corrcoef(rankdata(x), rankdata(y))[0, 1]))
    return Similarity(tuple(values), constant)


def ssim(a: Tensor, b: Tensor, *, window: int = WINDOW, absolute: bool = False) -> Similarity:
    """Structural similarity (Wang et al. 2004) of N maps (N,H,W), `window` pixels square, uniform.

    Each map is divided by its largest magnitude and, with signs, laid into [0,1] with nothing at
    1/2; the range is 1. (Left around 0, opposite maps would look alike: the signs of luminance and
    structure cancel.) Constant maps are counted. Raises `ExplainError` for a window
    that is even or larger than the maps.
    """
    if window % 2 == 0 or not 3 <= window <= min(a.shape[-2:]):
        raise ExplainError(
            f"an SSIM window of {window} pixels: odd, from 3 to {min(a.shape[-2:])} here"
        )
    first, second = (each.reshape(a.shape) for each in _rows(a, b, absolute))
    values, constant = [], 0
    for x, y in zip(first, second, strict=True):
        if not _varied(x) or not _varied(y):
            constant += 1
            continue
        sizes = [np.abs(each).max() for each in (x, y)]
        pair = [each / size for each, size in zip((x, y), sizes, strict=True)]
        if not absolute:
            pair = [(each + 1) / 2 for each in pair]
        found = structural_similarity(*pair, win_size=window, data_range=1)  # type: ignore[no-untyped-call]
        values.append(float(found))
    return Similarity(tuple(values), constant)


def _varied(values: np.ndarray) -> bool:
    """Whether there is anything to compare: all finite, and not all alike."""
    return bool(np.isfinite(values).all()) and float(np.ptp(values)) > 0


def _rows(a: Tensor, b: Tensor, absolute: bool) -> list[np.ndarray]:
    if a.shape != b.shape:
        raise ExplainError(f"maps of {tuple(a.shape)} and {tuple(b.shape)} cannot be compared")
    rows = [each.detach().cpu().double().flatten(1).numpy() for each in (a, b)]
    return [np.abs(each) for each in rows] if absolute else rows
