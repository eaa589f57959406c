"""A briefly trained net with its previous checkpoint, and how repairs of it are judged."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from robustkit import data, models
from robustkit.data import ImageSet, Splits
from robustkit.models import Classifier
from robustkit.repair import (
    ARACHNE,
    HISTORY,
    Repair,
    RepairConfig,
    RepairMetrics,
    RepairResult,
    SwarmConfig,
    repair,
    repair_sets,
)
from robustkit.training import TrainConfig, fit

SWARM = SwarmConfig(particles=20, iterations=8)
HISTORY_60 = replace(HISTORY, top=60, on_empty="grow", n_positives=80, seed=1)
ARACHNE_1 = replace(ARACHNE, seed=1)
BOTH = pytest.mark.parametrize("method", [HISTORY_60, ARACHNE_1], ids=["history", "arachne"])


@dataclass
class Trained:
    """A net after two epochs, and after the one before."""

    model: Classifier
    previous: Classifier
    splits: Splits

    def repair(self, config: RepairConfig, swarm: SwarmConfig = SWARM, **more: Any) -> Repair:
        images = more.pop("images", self.splits.train)
        return repair(self.model, config, images, previous=self.previous, swarm=swarm, **more)


@pytest.fixture(scope="session", name="net")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("checkpoints")
    splits = data.load("digits", train_size=300)
    model = models.build("small", num_classes=10, in_channels=1, image_size=16, width=4, seed=0)
    wanted = TrainConfig(epochs=3, batch_size=32, lr=0.02, schedule="constant", seed=0)
    fit(model, splits, wanted, checkpoint_dir=folder)
    last, before = (models.load(folder / f"epoch_{epoch:04d}.safetensors") for epoch in (3, 2))
    counts = repair_sets(last, splits.train, before).counts()
    assert min(counts.values()) > 5
    return Trained(last, before, splits)


def said(model: Classifier, images: ImageSet) -> list[int]:
    """Predictions by one ordinary forward pass."""
    with torch.no_grad():
        answers: list[int] = copy.deepcopy(model).eval()(images.floats()).argmax(dim=1).tolist()
    return answers


def known(rate: float | None) -> float:
    """The rate, which is over images."""
    assert rate is not None
    return rate


def check_figures(
    metrics: RepairMetrics | None,
    images: ImageSet,
    before: list[int],
    after: list[int],
    wanted: Callable[[int, int], bool] = lambda true, answer: True,
) -> None:
    """Accuracies and rates, counted image by image."""
    assert metrics is not None
    labels = images.labels.tolist()
    rows = list(zip(labels, before, after, strict=True))
    neg = [i for i, (y, b, _) in enumerate(rows) if b != y and wanted(y, b)]
    pos = [i for i, (y, b, _) in enumerate(rows) if b == y]
    repaired = [i for i in neg if after[i] == labels[i]]
    broken = [i for i in pos if after[i] != labels[i]]
    assert (metrics.n, metrics.n_neg, metrics.n_pos) == (len(rows), len(neg), len(pos))
    assert metrics.acc_before == pytest.approx(len(pos) / len(rows))
    assert metrics.acc_after == pytest.approx(sum(a == y for y, _, a in rows) / len(rows))
    assert metrics.rr == (pytest.approx(len(repaired) / len(neg)) if neg else None)
    assert metrics.br == (pytest.approx(len(broken) / len(pos)) if pos else None)
    if isinstance(metrics, RepairResult):
        assert (metrics.repaired_indices, metrics.broken_indices) == (repaired, broken)


def untimed(made: Repair) -> dict[str, Any]:
    return {name: each for name, each in made.result.to_json().items() if name != "seconds"}


def entries(made: Repair) -> dict[str, Tensor]:
    return {
        f"{part}/{name}": getattr(change, part)
        for name, change in made.patch.changes.items()
        for part in ("indices", "old", "new")
    }
