"""Correlations of genes with accuracy, orthogonal gradients and low transfer.

An association over the trials of a search is no proof of a cause: selection makes genes travel
together, and among a hundred 95 % intervals about five exclude zero by chance. What stands out
here is a hypothesis for an ablation. A random search's trials, which know no selection, are the
better evidence.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from evolution.genotype import Genotype
from robustkit.compute.seeds import derive_seed
from robustkit.models.blueprint import ACTIVATIONS, BLOCKS, MERGES, NORMS, POOLS, Block

Floats = npt.NDArray[np.float64]

SMOOTH_ACTIVATIONS = ("elu", "silu", "gelu")
_FEWEST_TRIALS = 8
_FEWEST_VARIED = 3  # trials off the commonest value: fewer say nothing about a gene


class Feature(NamedTuple):
    """One property of a network: a `gene`, and which of its values or which summary is meant."""

    gene: str
    value: str


@dataclass(frozen=True)
class GeneEffect:
    """The rank correlation of a feature with `metric` over `n` trials.

    `effect` is Spearman's rank correlation in [-1, 1], `low` and `high` its bootstrap interval.
    """

    gene: str
    value: str
    metric: str
    n: int
    effect: float
    low: float
    high: float


def gene_features(genotype: Genotype) -> dict[Feature, float]:
    """Return the network's features, from its canonical form.

    Shares in [0,1] of all blocks (kind) or of the blocks with weights (activation, norm); means
    over blocks with weights (channels, kernel in pixels); counts (blocks, reductions, pools,
    merges); the head's hidden width, and 1 where it is flattened.
    """
    expressed = genotype.canonical()
    blocks = expressed.blocks
    learned = [block for block in blocks if BLOCKS[block.kind].learned]
    pools = Counter(block.pool for block in blocks if block.kind == "pool")
    merges = Counter(block.merge for block in blocks if len(block.inputs) > 1)
    smooth = sum(block.activation in SMOOTH_ACTIVATIONS for block in learned)
    return {
        Feature("blocks", "count"): len(blocks),
        Feature("reductions", "count"): sum(block.stride == 2 for block in blocks),
        Feature("channels", "mean"): _mean([block.channels for block in learned]),
        Feature("kernel", "mean"): _mean([block.kernel for block in learned]),
        **_shares("kind", tuple(BLOCKS), blocks),
        **_shares("activation", ACTIVATIONS, learned),
        Feature("activation", "smooth"): smooth / max(1, len(learned)),
        **_shares("norm", NORMS, learned),
        **{Feature("pool", name): pools[name] for name in POOLS},
        **{Feature("merge", name): merges[name] for name in MERGES},
        Feature("head", "flatten"): float(expressed.head.pool == "flatten"),
        Feature("head", "hidden"): expressed.head.hidden,
    }


def gene_effects(
    trials: Sequence[tuple[Genotype, Mapping[str, float | None]]],
    metrics: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> list[GeneEffect]:
    """Return the rank correlations of features with every one of `metrics`, strongest first.

    `trials` are genotypes with their numbers; those without a finite `metric` do not count for
    it. Intervals are percentiles over `resamples` bootstrap resamples of trials. Left out are
    metrics with fewer than 8 trials or one value only, and features that fewer than 3 trials vary.
    """
    effects = []
    for metric in metrics:
        usable = [(genotype, numbers.get(metric)) for genotype, numbers in trials]
        pairs = [(gene_features(genotype), y) for genotype, y in usable if _finite(y)]
        y = np.array([number for _, number in pairs], dtype=np.float64)
        if len(pairs) < _FEWEST_TRIALS or np.ptp(y) == 0:
            continue
        rng = np.random.default_rng(derive_seed(seed, "gene effects", metric))
        # Row 0 is the sample itself, the others are its resamples.
        rows = rng.integers(len(pairs), size=(resamples, len(pairs)))
        rows = np.vstack([np.arange(len(pairs)), rows])
        y_ranks = _unit_ranks(y[rows])
        for feature in pairs[0][0]:
            x = np.array([features[feature] for features, _ in pairs], dtype=np.float64)
            if _varied(x) >= _FEWEST_VARIED:
                correlations = (_unit_ranks(x[rows]) * y_ranks).sum(axis=1)
                effects.append(_effect(feature, metric, len(pairs), correlations, confidence))
    order = {metric: index for index, metric in enumerate(metrics)}
    return sorted(effects, key=lambda effect: (order[effect.metric], -abs(effect.effect)))


def _effect(
    feature: Feature, metric: str, n: int, correlations: Floats, confidence: float
) -> GeneEffect:
    """Return the effect of a feature; resamples of equal values (NaN) do not count."""
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(correlations[1:], [tail, 1 - tail])
    effect = float(correlations[0])
    return GeneEffect(feature.gene, feature.value, metric, n, effect, float(low), float(high))


def _unit_ranks(values: Floats) -> Floats:
    """Return average ranks per row, centred and of unit norm; NaN in a row of equal values."""
    ranks = rankdata(values, axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(ranks, axis=1, keepdims=True)
    unit: Floats = ranks / np.where(norms > 0, norms, np.nan)
    return unit


def _varied(values: Floats) -> int:
    """Return how many values differ from the commonest one."""
    _, counts = np.unique(values, return_counts=True)
    return int(len(values) - counts.max())


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _mean(values: Sequence[int]) -> float:
    return sum(values) / max(1, len(values))


def _shares(gene: str, names: Sequence[str], blocks: Sequence[Block]) -> dict[Feature, float]:
    counts = Counter(getattr(block, gene) for block in blocks)
    return {Feature(gene, name): counts[name] / max(1, len(blocks)) for name in names}
