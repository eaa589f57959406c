"""Choosing images: stratified splits and samples, and the batches of an epoch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustkit.errors import ConfigError, DataError

Indices = NDArray[np.int64]


def stratified_split(
    labels: Tensor, fraction: float, seed: int, tracks: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Divide indices into a rest and a part holding about `fraction` of every class.

    `labels` int64 (N,). With `tracks` (N,), all images of one class and track go to one side.
    Every class keeps at least one image (or track) in the rest, and has one in the part if it has
    two. Both index tensors are sorted; the result depends on the arguments alone.

    Raises ConfigError unless 0 < fraction < 1, DataError if one side would be empty.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"a split's fraction must lie between 0 and 1, not {fraction}")
    rng = np.random.default_rng(seed)
    classes = labels.numpy()
    groups = np.arange(len(classes)) if tracks is None else tracks.numpy()
    in_second = np.zeros(len(classes), dtype=bool)
    for label in np.unique(classes):
        members = np.flatnonzero(classes == label)
        in_second[members] = _chosen_groups(groups[members], fraction, rng)
    if not in_second.any():
        units = "images" if tracks is None else "tracks"
        raise DataError(f"an empty split: no class has two {units} to divide")
    return torch.from_numpy(np.flatnonzero(~in_second)), torch.from_numpy(np.flatnonzero(in_second))


def _chosen_groups(groups: Indices, fraction: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return a mask of whole groups, drawn at random, of a size nearest to the fraction."""
    names, sizes = np.unique(groups, return_counts=True)
    order = rng.permutation(len(names))
    if len(names) < 2:
        return np.zeros(len(groups), dtype=bool)
    totals = np.cumsum(sizes[order])[:-1]  # the last group always stays in the rest
    take = int(np.argmin(np.abs(totals - fraction * len(groups)))) + 1
    chosen: NDArray[np.bool_] = np.isin(groups, names[order[:take]])
    return chosen


def stratified_sample(labels: Tensor, size: int, seed: int) -> Tensor:
    """Return `size` sorted indices that keep the class proportions of `labels` (N,).

    Every class is present; counts differ from exact proportion by less than one image wherever
    that leaves a class at least one. The result depends on the arguments alone.

    Raises DataError if `size` exceeds N or is smaller than the number of classes present.

    >>> labels = torch.tensor([0] * 8 + [1] * 4)
    >>> torch.bincount(labels[stratified_sample(labels, 6, seed=0)])
    tensor([4, 2])
    """
    names, inverse, counts = np.unique(labels.numpy(), return_inverse=True, return_counts=True)
    if size > len(inverse):
        raise DataError(f"a sample of {size} images was asked for, but there are {len(inverse)}")
    if size < len(names):
        raise DataError(
            f"a sample of {size} images cannot hold {len(names)} classes; ask for at least "
            f"{len(names)}"
        )
    rng = np.random.default_rng(seed)
    chosen = [
        rng.permutation(np.flatnonzero(inverse == position))[:quota]
        for position, quota in enumerate(_quotas(counts, size))
    ]
    return torch.from_numpy(np.sort(np.concatenate(chosen)))


def sample(labels: Tensor, size: int, seed: int) -> Tensor:
    """Return `size` sorted indices into `labels` (N,): `stratified_sample` where that is possible.

    With fewer images than classes present no class can be promised its place, and every image has
    the same chance. The result depends on the arguments alone. Raises DataError if `size` is below
    1 or exceeds N.
    """
    if size < 1:
        raise DataError(f"a sample of {size} images was asked for; it takes at least one")
    if size >= len(torch.unique(labels)):
        return stratified_sample(labels, size, seed)
    order = np.random.default_rng(seed).permutation(len(labels))
    return torch.from_numpy(np.sort(order[:size]))


def _quotas(counts: Indices, size: int) -> Indices:
    """Return shares of `size` by largest remainder, at least one for every class."""
    exact = counts * size / counts.sum()
    quotas: Indices = np.maximum(np.floor(exact).astype(np.int64), 1)
    while quotas.sum() < size:
        quotas[np.argmax(np.where(quotas < counts, exact - quotas, -np.inf))] += 1
    while quotas.sum() > size:
        quotas[np.argmax(np.where(quotas > 1, quotas - exact, -np.inf))] -= 1
    return quotas


def batches(
    count: int,
    batch_size: int,
    *,
    generator: torch.Generator | None = None,
    drop_last: bool = False,
) -> Iterator[Tensor]:
    """Yield int64 index tensors that cover range(count) once.

    In order, or shuffled if a `generator` is given. The last batch may be smaller, unless
    `drop_last` leaves it out. Raises ConfigError if `batch_size` is below 1.
    """
    if batch_size < 1:
        raise ConfigError(f"batch size must be at least 1, not {batch_size}")
    order = torch.arange(count) if generator is None else torch.randperm(count, generator=generator)
    end = count - count % batch_size if drop_last else count
    for start in range(0, end, batch_size):
        yield order[start : start + batch_size]
