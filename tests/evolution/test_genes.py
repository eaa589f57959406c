"""Associations of genes with metrics, against the slow way."""

from __future__ import annotations

import math
import random
import warnings

import numpy as np
import pytest
from scipy.stats import spearmanr

from evolution.genes import Feature, gene_effects, gene_features
from evolution.genotype import Genotype
from evolution.sampling import sample
from evolution.space import SearchSpace
from robustkit.compute.seeds import derive_seed
from robustkit.models.blueprint import Block, Head

Trials = list[tuple[Genotype, dict[str, float | None]]]


@pytest.fixture(scope="module")
def trials() -> Trials:
    """Transfer falls with the share of smooth activations; luck has nothing to do with genes."""
    rng = random.Random(0)
    genotypes = [sample(rng, SearchSpace()) for _ in range(40)]
    return [
        (
            genotype,
            {
                "transfer": 0.9
                - 0.5 * gene_features(genotype)[Feature("activation", "smooth")]
                + rng.gauss(0, 0.05),
                "luck": rng.random(),
            },
        )
        for genotype in genotypes
    ]


def test_features_of_a_small_network() -> None:
    genotype = Genotype(
        (
            Block(kind="conv", channels=8, kernel=3, activation="gelu"),
            Block(kind="pool", pool="max", stride=2, inputs=(1,)),
            Block(kind="dense", channels=16, kernel=5, norm="group", inputs=(1, 2)),
        ),
        Head(pool="flatten", hidden=32),
    )
    found = {feature: value for feature, value in gene_features(genotype).items() if value}
    expected = {
        ("blocks", "count"): 3,
        ("reductions", "count"): 1,
        ("channels", "mean"): 12,
        ("kernel", "mean"): 4,
        ("kind", "conv"): 1 / 3,
        ("kind", "pool"): 1 / 3,
        ("kind", "dense"): 1 / 3,
        ("activation", "gelu"): 1 / 2,
        ("activation", "relu"): 1 / 2,
        ("activation", "smooth"): 1 / 2,
        ("norm", "batch"): 1 / 2,
        ("norm", "group"): 1 / 2,
        ("pool", "max"): 1,
        ("merge", "add"): 1,
        ("head", "flatten"): 1,
        ("head", "hidden"): 32,
    }
    assert found == {Feature(*name): value for name, value in expected.items()}


def test_genes_without_effect_are_no_features() -> None:
    plain = Genotype((Block(),))
    idle = Genotype((Block(kind="dense"), Block(pool="max"), Block(kind="identity", inputs=(2,))))
    assert gene_features(plain) == gene_features(idle)


def test_effects_and_intervals_match_the_slow_way(trials: Trials) -> None:
    effects = gene_effects(trials, ["transfer"], seed=5, resamples=200)
    y = np.array([numbers["transfer"] for _, numbers in trials], dtype=float)
    rng = np.random.default_rng(derive_seed(5, "gene effects", "transfer"))
    rows = rng.integers(len(trials), size=(200, len(trials)))
    for effect in effects[::4]:
        feature = Feature(effect.gene, effect.value)
        x = np.array([gene_features(genotype)[feature] for genotype, _ in trials])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a resample of equal values
            resampled = [spearmanr(x[row], y[row]).statistic for row in rows]
        assert effect.effect == pytest.approx(spearmanr(x, y).statistic)
        assert (effect.low, effect.high) == pytest.approx(
            tuple(np.nanquantile(resampled, [0.025, 0.975]))
        )
        assert effect.n == len(trials)


def test_the_planted_association_comes_first(trials: Trials) -> None:
    first = gene_effects(trials, ["transfer"])[0]
    assert (first.gene, first.value) == ("activation", "smooth")
    assert first.effect < first.high < -0.5


def test_order_and_determinism(trials: Trials) -> None:
    effects = gene_effects(trials, ["luck", "transfer"], resamples=100)
    assert effects == gene_effects(trials, ["luck", "transfer"], resamples=100)
    assert effects != gene_effects(trials, ["luck", "transfer"], resamples=100, seed=1)
    metrics = [effect.metric for effect in effects]
    assert metrics == sorted(metrics)  # "luck" < "transfer", as they were given
    strengths = [abs(effect.effect) for effect in effects if effect.metric == "luck"]
    assert strengths == sorted(strengths, reverse=True)
    assert all(-1 <= effect.low <= effect.high <= 1 for effect in effects)


def test_trials_without_a_finite_number_do_not_count(trials: Trials) -> None:
    holes: Trials = [
        (genotype, {"transfer": (None, math.nan, numbers["transfer"])[index % 3]})
        for index, (genotype, numbers) in enumerate(trials)
    ]
    whole = [trial for index, trial in enumerate(trials) if index % 3 == 2]
    assert gene_effects(holes, ["transfer"]) == gene_effects(whole, ["transfer"])


def test_what_says_nothing_is_left_out(trials: Trials) -> None:
    assert gene_effects(trials[:7], ["transfer"]) == []
    assert gene_effects(trials, ["absent"]) == []
    assert gene_effects([(genotype, {"flat": 1.0}) for genotype, _ in trials], ["flat"]) == []
    same = [(trials[0][0], numbers) for _, numbers in trials]
    assert gene_effects(same, ["transfer"]) == []
    two_odd = [*same[:-2], *trials[-2:]]
    assert gene_effects(two_odd, ["transfer"]) == []
