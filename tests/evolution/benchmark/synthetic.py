"""A table whose networks were never trained: values of a formula, with noise of known size."""

from __future__ import annotations

import math
import random
from functools import lru_cache

import numpy as np

from evolution.benchmark.collect import REPLICATED, REPLICATES
from evolution.benchmark.features import network_cost, network_features
from evolution.benchmark.measure import (
    CLASSES,
    INPUT_SHAPE,
    REFERENCES,
    RUNGS,
    SPACE,
    VAL_IMAGES,
    Measurement,
    Rung,
)
from evolution.benchmark.table import Table, record_of, setting_of
from evolution.genotype import Genotype
from evolution.sampling import sample
from evolution.variation import mutate
from robustkit.compute import derive_seed

NOISE = 0.02  # sd of a training's accuracy and transfer, about


def truth(genotype: Genotype) -> tuple[float, list[float]]:
    """Return the accuracy after the last epoch and the transfer from each reference."""
    features = network_features(genotype)
    quality = (
        0.35 * (features["log macs"] - 12.5)
        + 0.5 * features["norm batch"]
        + 0.3 * features["activation smooth"]
        - 0.4 * features["kind separable"]
        - 0.08 * (features["longest path"] - 4) ** 2
    )
    accuracy = 0.12 + 0.4 / (1 + math.exp(-quality))
    early = features["first kernel"] / 7 + features["first average"]
    transfer = [
        0.04 + 0.5 * accuracy * (0.3 + 0.5 * features[f"kind {kind}"]) / (1 + early)
        for kind in ("conv", "separable", "residual")
    ]
    return accuracy, transfer


def training(genotype: Genotype, rng: np.random.Generator) -> Measurement:
    """Return one training: half of its noise is common to all epochs."""
    spent = network_cost(genotype)
    accuracy, transfer = truth(genotype)
    shared = rng.standard_normal(1 + len(REFERENCES))
    rungs = []
    for epochs in RUNGS:
        noise = NOISE * (shared + rng.standard_normal(len(shared))) / math.sqrt(2)
        share = float(np.clip(accuracy * (0.6 + 0.1 * epochs) + noise[0], 0.05, 0.95))
        fooled = [
            float(np.clip(value + each, 0.0, 1.0))
            for value, each in zip(transfer, noise[1:], strict=True)
        ]
        rungs.append(
            Rung(
                epochs=epochs,
                accuracy=share,
                loss=2.3 - share,
                transfer=fooled,
                transfer_n=[round(0.9 * share * VAL_IMAGES)] * len(fooled),
                unseen=fooled if epochs == RUNGS[-1] else [],
                cosine=[0.3 * value for value in fooled],
                cosine_abs=[0.3 * value + 0.02 for value in fooled],
                norm=5 * share,
                seconds=epochs * (1 + spent.macs / 1e6),
            )
        )
    return Measurement(params=spent.params, macs=spent.macs, rungs=rungs)


def networks(count: int, seed: int = 0) -> list[Genotype]:
    """Return distinct networks of the space: half of them sampled, half mutated from these."""
    rng = random.Random(seed)
    found: dict[str, Genotype] = {}
    while len(found) < count:
        if found and rng.random() < 0.5:
            genotype, _ = mutate(rng.choice(list(found.values())), rng, SPACE)
        else:
            genotype = sample(rng, SPACE)
        if SPACE.fits(genotype, INPUT_SHAPE, CLASSES):
            found.setdefault(genotype.key(), genotype)
    return list(found.values())


@lru_cache(maxsize=4)
def synthetic_table(count: int = 150, seed: int = 0) -> Table:
    """Return a table of `count` networks, every tenth of which was trained three times."""
    records = []
    for number, genotype in enumerate(networks(count, seed)):
        rng = np.random.default_rng(derive_seed(seed, "synthetic", number))
        trainings = [
            training(genotype, rng) for _ in range(1 if number % REPLICATED else REPLICATES)
        ]
        records.append(record_of(number, "sample", (), genotype, trainings))
    return Table(setting_of(10.0), tuple(records))
